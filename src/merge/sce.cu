#include "aimerge/merge/sce.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE(SceCombine, aimerge::Selected::All)
AIMERGE_ON_DEVICE(SceCombine, aimerge::Selected::ByVariance)
