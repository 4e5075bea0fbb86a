#include "aimerge/merge/ram.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE(RamCombine)
