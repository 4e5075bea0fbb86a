#include "merge/combine/for_each_element.cuh"
#include "merge/combine/weighted_combine.h"

AIMERGE_ON_DEVICE(WeightedChangesCombine)
AIMERGE_ON_DEVICE(ColumnWeightedChangesCombine)
