#include "merge/combine/for_each_element.cuh"
#include "merge/methods/closed_form.h"

AIMERGE_ON_DEVICE_OF(2, aimerge::ClosedFormCombine<aimerge::Scaled::No>)
AIMERGE_ON_DEVICE_OF(2, aimerge::ClosedFormCombine<aimerge::Scaled::Yes>)
AIMERGE_ON_DEVICE(ExpertMeanCombine, aimerge::Scaled::No)
AIMERGE_ON_DEVICE(ExpertMeanCombine, aimerge::Scaled::Yes)
