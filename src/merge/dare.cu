#include "aimerge/merge/task_vectors.h"
#include "merge/for_each_element.cuh"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using ScaledSum = SumCombine<ScaleEach, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using ScaledConsensus = ConsensusCombine<ScaleEach, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(ScaledSum)
AIMERGE_ON_DEVICE_NORMALIZING(ScaledConsensus)
