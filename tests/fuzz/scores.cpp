// A CSV file of scores.

#include "fuzz_target.h"

#include "aimerge/report/score_table.h"

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    parseScores(input, "scores.csv", ScoreScale::Guess);
}

}  // namespace aimerge::fuzz
