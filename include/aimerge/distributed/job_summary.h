#pragma once
// What a job took: every rank's phases put together, as the table on rank 0's standard error and as --json.

#include "aimerge/distributed/phase.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace aimerge {

struct RankRecord {
    std::string host, device;
    int threads = 1;
    std::uint64_t peakMemoryBytes = 0;  // of the process, libraries and touched pages of mapped files included
    std::vector<PhaseFigures> phases;

    std::string toJson() const;
    static RankRecord fromJson(const std::string& text);
};

/// This rank's. @param device its name, where it computes
RankRecord recordOfThisRank(const std::string& device, int threads);

/// A phase over all ranks. Ranks that had no such phase were idle.
struct PhaseSummary {
    std::string name;
    double seconds = 0;       // of the rank that took longest
    double idleShare = 0;     // of ranks x seconds, what no rank worked: it waited, or was done
    std::size_t slowest = 0;  // the rank that worked longest
    std::uint64_t bytesRead = 0, bytesWritten = 0, tokens = 0;

    double bytesPerSecond() const;
    double tokensPerSecond() const;
};

/// In the order in which the ranks name them. @param ranks in rank order
std::vector<PhaseSummary> summaryOf(const std::vector<RankRecord>& ranks);

/// A line per phase, then one per rank; empty without phases.
std::string summaryTable(const std::vector<RankRecord>& ranks);

/// {"phases": [{...}], "ranks": [{...}]}: bytes, seconds, shares of 1.
nlohmann::ordered_json summaryJson(const std::vector<RankRecord>& ranks);

}  // namespace aimerge
