#include "job/machines.h"

#include "aimerge/core/host_name.h"
#include "aimerge/core/processor_name.h"
#include "aimerge/merge/instruction_set.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string_view>

namespace aimerge {
namespace {

using Json = nlohmann::json;

std::string_view nameOf(InstructionSet set) {
    switch (set) {
        case InstructionSet::Avx512:
            return "AVX-512";
        case InstructionSet::Avx2:
            return "AVX2";
        default:
            return "no AVX2";
    }
}

bool computeAlike(const RankPlace& one, const RankPlace& other) {
    return one.processor == other.processor && one.instructionSet == other.instructionSet && one.threads == other.threads;
}

std::string waysText(const RankPlace& place) {
    return fmt::format("{}, {}, {} thread{}", place.processor, place.instructionSet, place.threads,
                       place.threads == 1 ? "" : "s");
}

}  // namespace

std::string machinesText(const std::vector<RankPlace>& ranks) {
    std::string text;
    for (std::size_t first = 0, end = 0; first < ranks.size(); first = end) {
        while (end < ranks.size() && ranks[end] == ranks[first]) ++end;
        const std::string which =
            end - first == 1 ? fmt::format("rank {}", first) : fmt::format("ranks {}-{}", first, end - 1);
        text += fmt::format("{}{}: {}, {}{}", text.empty() ? "" : "\n", which, ranks[first].host, waysText(ranks[first]),
                            end - first == 1 ? "" : " each");
    }
    return text;
}

std::string describeMachines(World& world, int threads) {
    const Json own{
        {"host", hostName()}, {"processor", processorName()}, {"set", nameOf(bestInstructionSet())}, {"threads", threads}};
    std::vector<RankPlace> ranks;
    for (const std::string& text : world.gather(own.dump(-1, ' ', false, Json::error_handler_t::replace))) {
        const Json rank = Json::parse(text);
        ranks.push_back({rank.at("host"), rank.at("processor"), rank.at("set"), rank.at("threads")});
    }
    if (!world.isRoot()) return {};
    const auto other = std::ranges::find_if_not(ranks, [&](const RankPlace& rank) { return computeAlike(rank, ranks[0]); });
    if (other != ranks.end())
        spdlog::info(
            "ranks compute in different ways: rank 0 on {}, rank {} on {}; statistics agree with those of one machine to "
            "about "
            "1e-6 of their values, not bit for bit",
            waysText(ranks[0]), other - ranks.begin(), waysText(*other));
    return machinesText(ranks);
}

}  // namespace aimerge
