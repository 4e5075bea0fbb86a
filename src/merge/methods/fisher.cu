#include "merge/combine/for_each_element.cuh"
#include "merge/methods/fisher.h"

// A model is two inputs: its values and its Fisher values.
AIMERGE_ON_DEVICE_OF(2, aimerge::FisherCombine<1>)
AIMERGE_ON_DEVICE_OF(4, aimerge::FisherCombine<2>)
AIMERGE_ON_DEVICE_OF(6, aimerge::FisherCombine<3>)
AIMERGE_ON_DEVICE_OF(8, aimerge::FisherCombine<4>)
AIMERGE_ON_DEVICE_OF(10, aimerge::FisherCombine<5>)
AIMERGE_ON_DEVICE_OF(12, aimerge::FisherCombine<6>)
AIMERGE_ON_DEVICE_OF(14, aimerge::FisherCombine<7>)
AIMERGE_ON_DEVICE_OF(16, aimerge::FisherCombine<8>)
