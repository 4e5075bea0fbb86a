#pragma once
// What a report says about each row of scores: its HV gain, its changes against the same merge without AIM, its place on
// Pareto fronts.

#include "aimerge/report/score_table.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

/// Whose hypervolume a merged model adds to. Members are always models that are not merged.
enum class Population {
    Stated,     // as the AIM paper's text says: of three or more experts they and the base, of two only the two
    AsPrinted,  // as its Tables 1 and 3 were computed: code+instruct against code and math,
                // instruct+math against code and instruct
    All,        // the base and every expert
};

/// @throws UsageError naming the accepted words: stated, as-printed, all
Population parsePopulation(std::string_view text);
std::string_view populationName(Population population);

/// Which of the paper's experts a name stands for, by what it contains; empty when none: "code", "instruct", "math".
std::string_view roleOf(std::string_view expert);

/// Rows of the members for a merged row.
/// @throws InputError when an expert or the base that belongs to it has no row
std::vector<std::size_t> populationOf(const ScoreTable& table, const ScoreRow& merged, Population population);

struct RowAnalysis {
    std::optional<double> gain;                 // of merged models that have all scores, as all members of their population
    std::optional<std::size_t> plain;           // row of the same merge without AIM; none for that row itself
    std::vector<std::optional<double>> change;  // percent against `plain`, one per benchmark; infinity from 0
    std::optional<double> gainChange;           // the same of the gain
    bool onFront = false;                       // Pareto front of all models in the table
    bool onOwnFront = false;                    // front of the merges of the same experts, with these experts and the base
};

struct Analysis {
    Population population = Population::Stated;
    std::vector<RowAnalysis> rows;     // as ScoreTable::rows
    std::vector<std::string> notices;  // what could not be computed, and why
};

/// @throws InputError as populationOf; and when two rows are the same merge without AIM
Analysis analyse(const ScoreTable& table, Population population);

}  // namespace aimerge
