#pragma once
// Models whose weights are codes of a quantisation. Tensors and config.json need not agree: a program may lose the section
// about it, or leave it where it has made plain weights of the codes.

#include "aimerge/checkpoint/checkpoint.h"

namespace aimerge {

/// Scales beside plain weights are a warning: nothing multiplies by them here.
/// @throws InputError with what config.json says, or the program's mark, and the tensor
void refuseQuantized(const Checkpoint& model);

}  // namespace aimerge
