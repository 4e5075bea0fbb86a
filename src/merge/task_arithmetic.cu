#include "aimerge/merge/task_arithmetic.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE_NORMALIZING(TaskArithmeticCombine)
