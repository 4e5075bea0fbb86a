#pragma once
// The parameters that task arithmetic and its descendants share.

#include "aimerge/merge/method.h"

#include <vector>

namespace aimerge {

/// Their places in taskVectorParameters().
enum TaskVectorParameter { kWeight, kDensity, kLambda, kNormalize, kRescale, kInt8Mask };

struct TaskVectorDefaults {
    bool normalize, rescale;
};

std::vector<ParameterSpec> taskVectorParameters(TaskVectorDefaults defaults);

}  // namespace aimerge
