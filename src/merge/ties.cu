#include "aimerge/merge/ties.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE_NORMALIZING(TiesCombine)
