#include "aimerge/merge/arcee_fusion.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE_OF(1, aimerge::ArceeFusionCombine)
