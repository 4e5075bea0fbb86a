// How long a calibration and a merge of a model take on machines that are not there, from the model's headers: what
// `aimerge plan --hardware` does, also for models that the decoder does not run yet.
//
//     scale_bench MODEL EXPERTS SEQUENCES LENGTH MACHINE.yaml...
//
// A line of JSON for each machine. scale_figure.py makes the models and draws the times.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "aimerge/simulation/simulate.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace aimerge;

PlanSettings settingsFor(const Machine& machine, std::size_t experts, std::int64_t sequences, std::int64_t length) {
    PlanSettings settings;
    settings.ranks = machine.ranks();
    settings.threadsPerRank = machine.threadsPerRank;
    settings.hardware = machine.isGpu ? gpuHardware() : processorHardware(machine.threadsPerRank);
    settings.memoryLimit = machine.memoryBytes / 20 * 17;
    settings.blocks = sequences;
    settings.blockLength = length;
    settings.inputs = experts + 1;
    settings.mergeBytesPerThread = 50'000'000;
    return settings;
}

nlohmann::ordered_json timesOn(const Machine& machine, const Checkpoint& base, std::size_t experts, std::int64_t sequences,
                               std::int64_t length) {
    const std::span<const TensorInfo> tensors = base.tensors();
    std::vector<OutputTensor> output;
    for (const TensorInfo& tensor : tensors) output.push_back({tensor.name, tensor.dtype, tensor.shape});
    const PlanSettings settings = settingsFor(machine, experts, sequences, length);
    const std::uint64_t bytes =
        std::accumulate(tensors.begin(), tensors.end(), std::uint64_t{0},
                        [](std::uint64_t sum, const TensorInfo& tensor) { return sum + tensor.bytes.size(); });
    const Plan plan = makePlan(base, output, settings);
    const auto streaming = std::ranges::count_if(plan.ranks, &RankPlan::streamsLayers);
    const double flops = std::accumulate(plan.ranks.begin(), plan.ranks.end(), 0.0,
                                         [](double sum, const RankPlan& rank) { return sum + rank.calibrationFlops; });
    nlohmann::ordered_json line{{"machine", machine.name}, {"nodes", machine.nodes}, {"ranks", machine.ranks()},
                                {"bytes", bytes},          {"flops", flops},         {"replicas", plan.replicas},
                                {"streaming", streaming}};
    for (const bool gathers : {false, true})
        line[gathers ? "gathered" : "phases"] = timesJson(simulate(
            {plan, settings, machine, base.architecture().layers(), base.modelConfig().hiddenSize, bytes, gathers}));
    return line;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 6) {
        std::fputs("scale_bench MODEL EXPERTS SEQUENCES LENGTH MACHINE.yaml...\n", stderr);
        return 2;
    }
    spdlog::set_level(spdlog::level::err);
    try {
        const Checkpoint base = Checkpoint::open(argv[1]);
        for (int i = 5; i < argc; ++i)
            fmt::print("{}\n", timesOn(findMachine(argv[i]), base, static_cast<std::size_t>(std::atoll(argv[2])),
                                       std::atoll(argv[3]), std::atoll(argv[4]))
                                   .dump());
    } catch (const Error& error) {
        fmt::print(stderr, "scale_bench: {}\n", error.what());
        return 1;
    }
    return 0;
}
