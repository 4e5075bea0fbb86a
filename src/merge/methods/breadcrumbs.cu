#include "merge/combine/for_each_element.cuh"
#include "merge/combine/task_vectors.h"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using RangeSum = SumCombine<KeepBetween, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using RangeConsensus = ConsensusCombine<KeepBetween, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(RangeSum)
AIMERGE_ON_DEVICE_NORMALIZING(RangeConsensus)
