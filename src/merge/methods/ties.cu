#include "merge/combine/for_each_element.cuh"
#include "merge/combine/task_vectors.h"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using TrimmedSum = SumCombine<KeepFrom, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using TrimmedConsensus = ConsensusCombine<KeepFrom, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(TrimmedSum)
AIMERGE_ON_DEVICE_NORMALIZING(TrimmedConsensus)
