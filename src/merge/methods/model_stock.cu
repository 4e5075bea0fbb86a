#include "merge/combine/for_each_element.cuh"
#include "merge/methods/model_stock.h"

AIMERGE_ON_DEVICE(ModelStockCombine)
