#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job_options.h"

#include <spdlog/spdlog.h>

#include <map>

namespace aimerge {
namespace {

/// Rank 0: what is wrong with the GPUs that the ranks would take; empty when each has one of its own.
/// @param choices of each rank: the GPU's UUID, or "!" and why there is none
std::string problemOf(const std::vector<std::string>& choices) {
    std::map<std::string, std::size_t> takers;  // by GPU
    for (std::size_t rank = 0; rank < choices.size(); ++rank) {
        const std::string& choice = choices[rank];
        if (choice.starts_with('!')) return fmt::format("rank {} has no GPU: {}", rank, choice.substr(1));
        const auto [taken, isNew] = takers.emplace(choice, rank);
        if (!isNew && !environment::sharesGpus())
            return fmt::format("rank {} and rank {} would share {}; start as many ranks on each machine as it has GPUs",
                               taken->second, rank, choice);
    }
    return {};
}

}  // namespace

Device chooseDevice(World& world, const JobOptions& options) {
    if (options.device == "cpu" || (options.device == "auto" && !hasGpuCode())) return {};
    const VisibleGpus visible = visibleGpus();
    const std::size_t count = visible.gpus.size();
    const Device own = count == 0 ? Device{} : visible.gpus[static_cast<std::size_t>(world.rankOnNode()) % count];
    const std::vector<std::string> choices = world.gather(own.isGpu() ? own.uuid : "!" + visible.whyNone);
    const std::string problem = world.broadcast(world.isRoot() ? problemOf(choices) : "");
    if (problem.empty()) return own;
    if (options.device == "cuda") {
        if (world.isRoot()) throw UsageError("--device cuda: {}", problem);
        world.barrier();  // ends with rank 0's error
    }
    if (world.isRoot())
        spdlog::log(count > 0 ? spdlog::level::warn : spdlog::level::info, "computing on the CPU: {}", problem);
    return {};
}

}  // namespace aimerge
