#include "merge/combine/for_each_element.cuh"
#include "merge/methods/slerp.h"

AIMERGE_ON_DEVICE_OF(1, aimerge::SlerpCombine)
