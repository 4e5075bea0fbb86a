// An evaluation suite in JSONL.

#include "fuzz_target.h"

#include "aimerge/evaluation/suite.h"

#include <cstdlib>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    for (const SuiteItem& item : readSuite(fileOf(input, "suite.jsonl"))) {
        if (item.continuations.empty() || item.answer >= item.continuations.size()) std::abort();
    }
}

}  // namespace aimerge::fuzz
