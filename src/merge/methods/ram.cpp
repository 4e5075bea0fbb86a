#include "merge/methods/ram.h"

#include "merge/combine/walked_parameter.h"

#include <algorithm>

namespace aimerge {
namespace {

enum RamParameter { kEpsilon };
enum RamPlusParameter { kR = 1, kAlpha };  // behind epsilon

ParameterSpec epsilonSpec() {
    return {.name = "epsilon",
            .type = ParameterType::Number,
            .scope = ParameterScope::Shared,
            .fallback = 1e-5,
            .description = "changes up to this count as none",
            .minimum = 0};
}

/// Elements of one input that it alone changed, and that it changed together with others.
struct ActiveCounts {
    std::int64_t unique = 0, shared = 0;
};

/// Adds the elements of a chunk. @param counts one per input
void countActive(const ParameterChunk& chunk, float epsilon, ActiveCounts* counts) {
    constexpr std::size_t kBlock = 256;
    for (std::size_t begin = 0; begin < chunk.count; begin += kBlock) {
        const std::size_t size = std::min(kBlock, chunk.count - begin);
        const float* const base = chunk.base + begin;
        std::uint32_t activeInputs[kBlock] = {};
        std::uint32_t* const active = activeInputs;
        for (const float* const input : chunk.inputs) {
            vectorised([=]() AIMERGE_INLINE_BODY {
                for (std::size_t i = 0; i < size; ++i) active[i] += isActive(input[begin + i] - base[i], epsilon);
            });
        }
        for (std::size_t input = 0; input < chunk.inputs.size(); ++input) {
            const float* const values = chunk.inputs[input] + begin;
            ActiveCounts* const to = counts + input;
            vectorised([=]() AIMERGE_INLINE_BODY {
                std::uint32_t unique = 0, shared = 0;
                for (std::size_t i = 0; i < size; ++i) {
                    const std::uint32_t own = isActive(values[i] - base[i], epsilon);
                    unique += own & static_cast<std::uint32_t>(active[i] == 1);
                    shared += own & static_cast<std::uint32_t>(active[i] > 1);
                }
                to->unique += unique;
                to->shared += shared;
            });
        }
    }
}

/// The counts of every input, over the whole parameter.
std::vector<ActiveCounts> activeCounts(ParameterReader& parameter, float epsilon) {
    const std::size_t inputs = parameter.inputs();
    std::vector<std::vector<ActiveCounts>> perWorker(static_cast<std::size_t>(parameter.threads().threads()),
                                                     std::vector<ActiveCounts>(inputs));
    parameter.visitAll(parameter.allInputs(), [&](const ParameterChunk& chunk) {
        countActive(chunk, epsilon, perWorker[static_cast<std::size_t>(chunk.worker)].data());
    });

    std::vector<ActiveCounts> sums(inputs);
    for (const auto& counts : perWorker) {
        for (std::size_t i = 0; i < inputs; ++i) {
            sums[i].unique += counts[i].unique;
            sums[i].shared += counts[i].shared;
        }
    }
    return sums;
}

/// mergekit divides by max(unique, epsilon): different only where there is nothing to amplify.
float amplificationOf(const ActiveCounts& counts, double r, double alpha) {
    if (counts.unique == 0) return 1;
    const double ratio = static_cast<double>(counts.shared) / static_cast<double>(counts.unique);
    return static_cast<float>(1 + r * std::min(alpha, ratio));
}

class PreparedRam : public WalkedParameter<PreparedRam> {
public:
    PreparedRam(std::vector<float> amplification, float epsilon)
        : amplification_(std::move(amplification)), epsilon_(epsilon) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        withInputCount(tile.inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            const RamCombine<kInputs> kernel{PerInput<float, kInputs>::from(amplification_.data()), epsilon_};
            forEachElement<kInputs>(kernel, tile);
        });
    }

private:
    std::vector<float> amplification_;
    float epsilon_;
};

class Ram : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "ram",
                                     .description = "Averages each element over the experts that changed it",
                                     .paper = "Behavior Knowledge Merge in Reinforced Agentic Models 2026, arXiv 2601.13572",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .parameters = {epsilonSpec()}};
        return info;
    }

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedRam>(std::vector<float>(parameter.inputs(), 1.0f),
                                             static_cast<float>(values.shared[kEpsilon]));
    }
};

class RamPlus : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "ramplus_tl",
                                     .description = "ram, with more weight on what one expert alone changed",
                                     .paper = "Behavior Knowledge Merge in Reinforced Agentic Models 2026, arXiv 2601.13572",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .parameters = {epsilonSpec(),
                                                    {.name = "r",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 0.1,
                                                     .description = "strength of the amplification"},
                                                    {.name = "alpha",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 0.2,
                                                     .description = "most that shared / unique counts",
                                                     .minimum = 0}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const float epsilon = static_cast<float>(values.shared[kEpsilon]);
        std::vector<float> amplification;
        for (const ActiveCounts& counts : activeCounts(parameter, epsilon))
            amplification.push_back(amplificationOf(counts, values.shared[kR], values.shared[kAlpha]));
        return std::make_unique<PreparedRam>(std::move(amplification), epsilon);
    }
};

}  // namespace

const Method& ramMethod() {
    static const Ram method;
    return method;
}

const Method& ramPlusMethod() {
    static const RamPlus method;
    return method;
}

}  // namespace aimerge
