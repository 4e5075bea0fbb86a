// The config of a sweep.

#include "fuzz_target.h"

#include "aimerge/experiment/sweep_config.h"

#include <cstdlib>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    if (parseSweepConfig(std::string(input), "sweep.yaml", {}).points.size() > kMostSweepPoints) std::abort();
}

}  // namespace aimerge::fuzz
