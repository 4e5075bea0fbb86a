#pragma once
// What feature calibration (calibration/featcal.h) takes of a rank's memory, and how much it computes.

#include "aimerge/architecture/model_config.h"
#include "aimerge/calibration/gradient_memory.h"
#include "aimerge/core/dtype.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace aimerge {

/// Sums of fewer tokens are computed faster than they are sent to another rank.
inline std::int64_t fewestTokensOfPart(bool onGpu) {
    return onGpu ? 16384 : 1024;
}

/// How many of the ranks get texts: the first ones.
inline int ranksWithTexts(std::int64_t tokens, int ranks, bool onGpu) {
    return static_cast<int>(std::clamp<std::int64_t>(tokens / fewestTokensOfPart(onGpu), 1, ranks));
}

struct FeatcalSize {
    std::int64_t points = 1, teachers = 1;
    std::int64_t tokens = 0;  // of all teachers' texts
    int ranks = 1;            // with texts
    Dtype dtype = Dtype::F32;
};

/// Linear layers that share an input.
struct FeatcalGroup {
    std::int64_t inputs, outputs;
    double products() const { return static_cast<double>(inputs) * static_cast<double>(inputs + outputs); }
};

/// For a layer of a model that the decoder runs.
inline std::vector<FeatcalGroup> featcalGroups(const ModelConfig& config) {
    const LayerDescription& layer = config.decoder->layers.front();
    const std::vector<ModuleDescription> modules = layer.modules();
    std::vector<FeatcalGroup> groups;
    for (const InputDescription& input : layer.inputs()) {
        if (modules[input.firstModule].isNorm) continue;
        FeatcalGroup group{modules[input.firstModule].inputs(), 0};
        for (std::size_t m = 0; m < input.modules; ++m) group.outputs += modules[input.firstModule + m].outputs();
        groups.push_back(group);
    }
    return groups;
}

/// Tokens that are one float32 product, or a few more.
inline constexpr std::int64_t kRowsOfProduct = 2048;

struct FeatcalMemory {
    std::uint64_t layers = 0;  // one of every model, as it is run; the merged ones also as they are stored and in float32
    std::uint64_t sums = 0;    // of the widest group, float64, and its solution
    std::uint64_t states = 0;  // of this rank's texts in every model; on disk where they do not fit

    std::uint64_t all() const { return layers + sums + states; }
};

/// What rank 0 takes, which solves. @param size of the whole job
inline FeatcalMemory featcalMemory(const ModelConfig& config, const FeatcalSize& size) {
    const auto value = static_cast<double>(bytesPerElement(size.dtype));
    const auto layer = static_cast<double>(parametersOfLayer(config));
    const auto points = static_cast<double>(size.points), teachers = static_cast<double>(size.teachers);
    double sums = 0;
    std::int64_t width = 0;
    for (const FeatcalGroup& group : featcalGroups(config)) {
        const double products = sizeof(double) * group.products();
        // Sums of each teacher: of the current chunk, of those that it is added to, and a float32 product as oneDNN and as
        // libtorch lay it out; then the sums of all teachers, factorised, and the solution.
        const double taken = points * (teachers + 3) * products, solved = points * teachers * products + 3 * products;
        // Rows that wait for their product, twice likewise.
        const double rows = 2 * kRowsOfProduct * sizeof(float) * static_cast<double>(group.inputs + group.outputs) * points;
        sums = std::max(sums, std::max(taken + rows, solved));
        width = std::max(width, group.inputs);
    }
    const double tokens = static_cast<double>(size.tokens) / size.ranks;
    FeatcalMemory memory;
    memory.layers = static_cast<std::uint64_t>(layer * (teachers * value + points * (value + 2 + sizeof(float))));
    memory.sums = static_cast<std::uint64_t>(sums);
    memory.states =
        static_cast<std::uint64_t>(tokens * static_cast<double>(config.hiddenSize + width) * value * (1 + points));
    return memory;
}

/// The work of all ranks.
struct FeatcalWork {
    double forward = 0;    // FLOPs of the forward passes
    double products = 0;   // and of the products of activations, float32
    double solutions = 0;  // of rank 0, float64
    double sentBytes = 0;  // of sums, to rank 0
    double flops() const { return forward + products + solutions; }
};

inline FeatcalWork featcalWork(const ModelConfig& config, const FeatcalSize& size) {
    const auto points = static_cast<double>(size.points), tokens = static_cast<double>(size.tokens);
    const auto layers = static_cast<double>(config.layers);
    FeatcalWork work;
    for (const FeatcalGroup& group : featcalGroups(config)) {
        const auto inputs = static_cast<double>(group.inputs), outputs = static_cast<double>(group.outputs);
        work.products += layers * points * tokens * 2 * group.products();
        work.solutions += layers * points * inputs * inputs * (inputs / 3 + 2 * outputs);
        work.sentBytes += layers * points * (size.ranks - 1) * group.products() * sizeof(double);
    }
    work.forward = layers * tokens * (1 + points) * 2 * static_cast<double>(parametersOfLayer(config));
    return work;
}

}  // namespace aimerge
