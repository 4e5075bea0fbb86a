#pragma once
// Spherical mean of any number of models around their mean direction (mergekit's multislerp): of the models themselves, or
// with a base of their changes T_i, each tensor one vector.
//
//     U_i = T_i / (|T_i| + eps),   m = sum w_i U_i,   theta = (m / |m|) cos(eps) sum w_i |T_i|
//
// The reference maps the U_i to the tangent plane at m / |m|, averages there with the same weights and maps back; the
// tangent mean is sum w_i (U_i - (U_i . m) m) = m |m| - m |m| = 0, so that the direction is m's;
// eps is the length that the reference gives that mean.

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& multislerpMethod();

}  // namespace aimerge
