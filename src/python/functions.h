#pragma once
// The package's functions, with requests and results as JSON (the keys are those of src/python/aimerge/_functions.py).

#include "aimerge/core/progress.h"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

struct FunctionResult {
    nlohmann::ordered_json json;  // null: none yet
    std::vector<float> values;    // what would be too much for JSON
    std::shared_ptr<const std::byte[]> bytes;
};

/// Runs "merge", "plan", ... on this thread, as one rank.
/// @param result is there also when findings end in an exception: damage, failed points
/// @throws Error as job.h says; UsageError for values that the command line would refuse
void runFunction(const std::string& name, const nlohmann::json& request, const ProgressListener& progress,
                 FunctionResult& result);

}  // namespace aimerge
