#include "merge/combine/for_each_element.cuh"
#include "merge/methods/arcee_fusion.h"

AIMERGE_ON_DEVICE_OF(1, aimerge::ArceeFusionCombine)
