#include "merge/combine/for_each_element.cuh"
#include "merge/methods/linear.h"

AIMERGE_ON_DEVICE_NORMALIZING(LinearCombine)
