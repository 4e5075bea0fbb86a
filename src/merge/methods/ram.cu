#include "merge/combine/for_each_element.cuh"
#include "merge/methods/ram.h"

AIMERGE_ON_DEVICE(RamCombine)
