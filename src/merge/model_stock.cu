#include "aimerge/merge/model_stock.h"
#include "merge/for_each_element.cuh"

AIMERGE_ON_DEVICE(ModelStockCombine)
