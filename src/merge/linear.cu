#include "aimerge/merge/linear.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE_NORMALIZING(LinearCombine)
