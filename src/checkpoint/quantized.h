#pragma once
// Models whose weights are codes of a quantisation, told by their tensors: config.json may have lost its section about it.

#include "aimerge/checkpoint/checkpoint.h"

namespace aimerge {

/// @throws InputError naming the program's mark
void refuseQuantized(const Checkpoint& model);

}  // namespace aimerge
