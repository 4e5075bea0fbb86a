// A merge config, all its documents. Its text is written into the result, so that it can be read again.

#include "fuzz_target.h"

#include "aimerge/config/merge_config.h"

#include <cstdlib>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    const std::vector<MergeConfig> documents = parseMergeConfigs(std::string(input), "merge.yaml", {}, ConfigUse::Merge);
    const std::vector<MergeConfig> again = parseMergeConfigs(documents.back().text, "merge.yaml", {}, ConfigUse::Merge);
    if (again.back().method != documents.back().method) std::abort();
}

}  // namespace aimerge::fuzz
