#include "aimerge/merge/weighted_changes.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE(WeightedChangesCombine)
AIMERGE_ON_DEVICE(ColumnWeightedChangesCombine)
