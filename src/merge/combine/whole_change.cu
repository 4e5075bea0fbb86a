#include "merge/combine/for_each_element.cuh"
#include "merge/combine/task_vectors.h"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
using WholeSum = SumCombine<KeepAll, kInputs, kNormalize>;

template <int kInputs, Normalize kNormalize>
using WholeConsensus = ConsensusCombine<KeepAll, kInputs, kNormalize>;

}  // namespace aimerge

AIMERGE_ON_DEVICE_NORMALIZING(WholeSum)
AIMERGE_ON_DEVICE_NORMALIZING(WholeConsensus)
