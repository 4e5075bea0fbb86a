#include "merge/combine/for_each_element.cuh"
#include "merge/methods/sce.h"

AIMERGE_ON_DEVICE(SceCombine, aimerge::Selected::All)
AIMERGE_ON_DEVICE(SceCombine, aimerge::Selected::ByVariance)
