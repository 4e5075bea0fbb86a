#pragma once
// What a report says first: the best merge by HV gain, what AIM changed, and what the differences rest on.

#include "aimerge/report/analysis.h"
#include "aimerge/report/gain_error.h"
#include "aimerge/report/report_table.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// Merges with AIM beside the merges of the same method and combination without it.
struct AimChange {
    std::size_t pairs = 0, higher = 0, lower = 0;  // of both with an HV gain; with AIM
    double without = 0, with = 0;                  // mean HV gains
    std::optional<double> error;                   // standard error of with - without; none: not known

    double change() const { return with - without; }
};

/// A number of items, and the benchmarks that have so many.
struct ItemCount {
    std::size_t items = 0;  // 0: not recorded, or not the same for all models
    std::vector<std::string> benchmarks;
};

struct Answer {
    std::size_t merges = 0;           // with an HV gain
    std::vector<std::size_t> best;    // rows with the largest, more than one where it is equal
    std::optional<std::size_t> next;  // row with the largest after it
    std::optional<double> leadError;  // standard error of the difference between the two
    AimChange aim;                    // over all pairs
    std::vector<double> pairErrors;   // standard error of each pair's change, rising; empty: not known
    std::size_t clearPairs = 0;       // whose change is larger than two of its standard errors
    std::vector<ItemCount> items;     // of the benchmarks that count, in their order
};

Answer answerOf(const ScoreTable& scores, const Analysis& analysis);

/// Two sentences: the best merge; what AIM changed, with its standard error and what it rests on, or what is not known.
std::vector<std::string> answerText(const Answer& answer, const ScoreTable& scores, const Analysis& analysis);
/// Further lines: how far the next is behind, what a single pair's change is worth.
std::vector<std::string> answerNotes(const Answer& answer, const ScoreTable& scores, const Analysis& analysis);
/// {"best", "next", "aim", "items"}; null for what is not known.
nlohmann::ordered_json answerJson(const Answer& answer, const ScoreTable& scores, const Analysis& analysis);

/// What AIM changed by ω, method and combination; without rows where there is no pair.
ReportTable aimTable(const ScoreTable& scores, const Analysis& analysis);

}  // namespace aimerge
