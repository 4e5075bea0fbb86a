#pragma once
// The prepared parameter of task vectors of which nothing is trimmed: task arithmetic, and its descendants at density 1.

#include "merge/combine/task_vector_combine.h"

#include <memory>

namespace aimerge {

std::unique_ptr<PreparedParameter> wholeChange(Addition addition, const ResolvedParameters& values);

}  // namespace aimerge
