#pragma once
// Scores of a base model, its experts and their merges: what a report is made of. Read from a CSV file with one row per
// model (docs/file-formats.md, "Scores").

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct Benchmark {
    std::string name;
    bool lowerIsBetter = false;  // a perplexity: shown, but no part of hypervolumes and Pareto fronts
};

/// What scores with the paper's prompt end with: beside `gsm8k_paper_prompt`, `gsm8k` is shown, but no part of hypervolumes
/// and fronts.
inline constexpr std::string_view kPaperPrompt = "_paper_prompt";

/// Whether a column is a perplexity by its name: `ppl` or `perplexity`, alone or at the end after ':' or '_'.
bool isPerplexity(std::string_view benchmark);

/// What columns begin with that say by which values of a sweep's grid a model was made: `grid:density`, `grid:aim_shape`.
inline constexpr std::string_view kGridColumn = "grid:";

enum class ModelKind { Base, Expert, Merged };
std::string_view kindName(ModelKind kind);

/// What a score rests on.
struct ScoredItems {
    std::size_t count = 0;  // 0: not recorded
    // '1' or '0' per item, right or wrong, in the same order for every model; empty: not recorded
    std::string outcomes;
};

struct ScoreRow {
    std::string model;
    ModelKind kind = ModelKind::Merged;
    std::string method;       // of a merged model, with its values of the grid: "ties density=0.2 aim_shape=top:0.2"
    std::string plainMethod;  // of the same merge without AIM: "ties density=0.2"
    std::vector<std::string> experts;  // of a merged model the experts in it; of an expert its own name, where given
    std::optional<double> omega;       // in [0, 1]
    bool aim = false;
    std::string status = "done", error, scoredBy;
    std::optional<double> seconds;
    std::vector<std::optional<double>> scores;  // one per benchmark: percent, or a perplexity
    std::vector<ScoredItems> items;             // one per benchmark
    std::string config;                         // the merge config that makes the model, as YAML; empty: not recorded
    std::size_t line = 0;                       // in the file

    bool done() const { return status == "done"; }
};

struct ScoreTable {
    std::filesystem::path file;
    std::vector<Benchmark> benchmarks;
    std::vector<ScoreRow> rows;

    /// Row of a name in a combination: the expert with that name, by its combination column or as a model.
    std::optional<std::size_t> expertRow(std::string_view name) const;
    std::optional<std::size_t> baseRow() const;
    /// Whether a benchmark is part of hypervolumes and Pareto fronts.
    bool counts(std::size_t benchmark) const;
};

/// "code + math"
std::string combinationText(const std::vector<std::string>& experts);
/// Whether both name the same experts, in any order.
bool sameExperts(const std::vector<std::string>& a, const std::vector<std::string>& b);

/// What the scores in a file mean. Guess: a value above 1 says 0-100, otherwise 0-1.
enum class ScoreScale { Guess, One, Hundred };

struct ScaledScores {
    ScoreTable table;
    ScoreScale scale = ScoreScale::Hundred;  // the one taken; perplexities are never scaled
};

/// Reads a file of scores.
/// @throws InputError with file, line and column: a missing or repeated column, a value that is no number or out of range, a
///         model named twice, a merged model without method or combination
ScaledScores readScores(const std::filesystem::path& file, ScoreScale scale);
/// As readScores(), from text; `file` is its name in messages.
ScaledScores parseScores(std::string_view text, const std::filesystem::path& file, ScoreScale scale);

}  // namespace aimerge
