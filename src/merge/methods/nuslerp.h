#pragma once
// Spherical interpolation of two models by weights (mergekit's NuSLERP): of the models themselves, or with a base of their
// changes. t = w_1 / (w_0 + w_1), phi the angle between v_0 and v_1.
//
//     v = sin((1-t) phi) / sin phi  v_0  +  sin(t phi) / sin phi  v_1          linear, (1-t) v_0 + t v_1, where colinear
//
// Vectors are whole tensors (nuslerp_flatten), or rows, or with nuslerp_row_wise columns of the stored matrix [out, in].
// Shoemake 1985, "Animating rotation with quaternion curves".

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& nuslerpMethod();

}  // namespace aimerge
