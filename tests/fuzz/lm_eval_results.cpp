// A results file of lm-eval.

#include "fuzz_target.h"

#include "aimerge/report/lm_eval.h"

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    const std::filesystem::path file = fileOf(input, "results/m/results_1.json");
    ScoreTable table =
        parseScores("model,kind,method,combination,omega\nm,base,,,\n", "scores.csv", ScoreScale::Hundred).table;
    addLmEvalScores(table, file.parent_path().parent_path());
}

}  // namespace aimerge::fuzz
