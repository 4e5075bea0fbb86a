#include "aimerge/distributed/job_summary.h"

#include "aimerge/core/host_name.h"
#include "aimerge/core/size_text.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

Json jsonOf(const PhaseFigures& phase) {
    return {{"phase", phase.name},
            {"seconds", phase.seconds},
            {"idle_seconds", phase.idleSeconds},
            {"bytes_read", phase.bytesRead},
            {"bytes_written", phase.bytesWritten},
            {"tokens", phase.tokens},
            {"peak_device_memory_bytes", phase.peakDeviceBytes}};
}

PhaseFigures phaseFrom(const Json& json) {
    return {json.at("phase"),
            json.at("seconds"),
            json.at("idle_seconds"),
            json.at("bytes_read"),
            json.at("bytes_written"),
            json.at("tokens"),
            json.at("peak_device_memory_bytes")};
}

Json jsonOf(const RankRecord& rank) {
    Json phases = Json::array();
    for (const PhaseFigures& phase : rank.phases) phases.push_back(jsonOf(phase));
    return {{"host", rank.host},
            {"device", rank.device},
            {"threads", rank.threads},
            {"peak_memory_bytes", rank.peakMemoryBytes},
            {"phases", std::move(phases)}};
}

const PhaseFigures* phaseNamed(const RankRecord& rank, const std::string& name) {
    const auto found = std::ranges::find(rank.phases, name, &PhaseFigures::name);
    return found == rank.phases.end() ? nullptr : &*found;
}

PhaseSummary summaryOfPhase(const std::string& name, const std::vector<RankRecord>& ranks) {
    PhaseSummary summary{.name = name};
    double work = 0, longestWork = -1;
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        const PhaseFigures* own = phaseNamed(ranks[rank], name);
        if (!own) continue;
        const double ownWork = own->seconds - own->idleSeconds;
        work += ownWork;
        if (ownWork > longestWork) {
            longestWork = ownWork;
            summary.slowest = rank;
        }
        summary.seconds = std::max(summary.seconds, own->seconds);
        summary.bytesRead += own->bytesRead;
        summary.bytesWritten += own->bytesWritten;
        summary.tokens += own->tokens;
    }
    if (summary.seconds > 0) summary.idleShare = 1 - work / (summary.seconds * static_cast<double>(ranks.size()));
    return summary;
}

std::uint64_t peakDeviceBytes(const RankRecord& rank) {
    std::uint64_t peak = 0;
    for (const PhaseFigures& phase : rank.phases) peak = std::max(peak, phase.peakDeviceBytes);
    return peak;
}

/// "-" for what a phase does not have.
std::string orDash(std::uint64_t value, const std::string& text) {
    return value == 0 ? "-" : text;
}

}  // namespace

std::string RankRecord::toJson() const {
    return jsonOf(*this).dump();
}

RankRecord RankRecord::fromJson(const std::string& text) {
    const Json json = Json::parse(text);
    RankRecord record{json.at("host"), json.at("device"), json.at("threads"), json.at("peak_memory_bytes"), {}};
    for (const Json& phase : json.at("phases")) record.phases.push_back(phaseFrom(phase));
    return record;
}

RankRecord recordOfThisRank(const std::string& device, int threads) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {hostName(), device, threads, static_cast<std::uint64_t>(usage.ru_maxrss) * 1024, recordedPhases()};
}

double PhaseSummary::bytesPerSecond() const {
    return seconds > 0 ? static_cast<double>(bytesRead + bytesWritten) / seconds : 0;
}

double PhaseSummary::tokensPerSecond() const {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::vector<PhaseSummary> summaryOf(const std::vector<RankRecord>& ranks) {
    std::vector<PhaseSummary> summaries;
    for (const RankRecord& rank : ranks)
        for (const PhaseFigures& phase : rank.phases)
            if (std::ranges::find(summaries, phase.name, &PhaseSummary::name) == summaries.end())
                summaries.push_back(summaryOfPhase(phase.name, ranks));
    return summaries;
}

std::string summaryTable(const std::vector<RankRecord>& ranks) {
    const std::vector<PhaseSummary> summaries = summaryOf(ranks);
    if (summaries.empty()) return {};
    std::string text = fmt::format("{:<12} {:>8} {:>8} {:>8} {:>10} {:>9} {:>6} {:>8}\n", "phase", "time", "read", "written",
                                   "rate", "tokens/s", "idle", "slowest");
    for (const PhaseSummary& phase : summaries) {
        const std::uint64_t bytes = phase.bytesRead + phase.bytesWritten;
        text += fmt::format("{:<12} {:>8} {:>8} {:>8} {:>10} {:>9} {:>5.0f}% {:>8}\n", phase.name,
                            formatSeconds(phase.seconds), orDash(phase.bytesRead, formatBytes(phase.bytesRead)),
                            orDash(phase.bytesWritten, formatBytes(phase.bytesWritten)),
                            orDash(bytes, formatBytes(static_cast<std::uint64_t>(phase.bytesPerSecond())) + "/s"),
                            orDash(phase.tokens, fmt::format("{:.0f}", phase.tokensPerSecond())), 100 * phase.idleShare,
                            fmt::format("rank {}", phase.slowest));
    }
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        const std::uint64_t device = peakDeviceBytes(ranks[rank]);
        text += fmt::format("rank {}: {}, {} thread{}, {}, at most {} of memory{}\n", rank, ranks[rank].host,
                            ranks[rank].threads, ranks[rank].threads == 1 ? "" : "s", ranks[rank].device,
                            formatBytes(ranks[rank].peakMemoryBytes),
                            device == 0 ? "" : fmt::format(" and {} of the GPU's", formatBytes(device)));
    }
    return text;
}

nlohmann::ordered_json summaryJson(const std::vector<RankRecord>& ranks) {
    Json phases = Json::array(), rankList = Json::array();
    for (const PhaseSummary& phase : summaryOf(ranks))
        phases.push_back({{"phase", phase.name},
                          {"seconds", phase.seconds},
                          {"bytes_read", phase.bytesRead},
                          {"bytes_written", phase.bytesWritten},
                          {"bytes_per_second", phase.bytesPerSecond()},
                          {"tokens", phase.tokens},
                          {"tokens_per_second", phase.tokensPerSecond()},
                          {"idle_share", phase.idleShare},
                          {"slowest_rank", phase.slowest}});
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        Json own{{"rank", rank}};
        own.update(jsonOf(ranks[rank]));
        rankList.push_back(std::move(own));
    }
    return {{"phases", std::move(phases)}, {"ranks", std::move(rankList)}};
}

}  // namespace aimerge
