#include "merge/combine/for_each_element.cuh"
#include "merge/combine/task_vectors.h"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using ScaledSum = SumCombine<ScaleEach, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using ScaledConsensus = ConsensusCombine<ScaleEach, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(ScaledSum)
AIMERGE_ON_DEVICE_NORMALIZING(ScaledConsensus)
