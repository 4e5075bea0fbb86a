#pragma once
// The parameters that task arithmetic and its descendants share.

#include "aimerge/merge/method.h"

#include <vector>

namespace aimerge {

/// Their places in taskVectorParameters(); what a method adds comes behind.
enum TaskVectorParameter { kWeight, kDensity, kLambda, kNormalize, kRescale, kInt8Mask, kFirstOwn };

struct TaskVectorDefaults {
    bool normalize, rescale;
};

std::vector<ParameterSpec> taskVectorParameters(TaskVectorDefaults defaults, std::vector<ParameterSpec> own = {});

/// The inputs with a density below 1, ascending.
std::vector<std::size_t> trimmedInputs(const ResolvedParameters& values);

/// How random methods restore the magnitude that they dropped: the values of rescaleModeParameter().
enum class RescaleMode { L1, InverseDensity };

ParameterSpec rescaleModeParameter();

}  // namespace aimerge
