#include "aimerge/merge/task_vectors.h"
#include "merge/for_each_element.cuh"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using TrimmedSum = SumCombine<KeepFrom, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using TrimmedConsensus = ConsensusCombine<KeepFrom, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(TrimmedSum)
AIMERGE_ON_DEVICE_NORMALIZING(TrimmedConsensus)
