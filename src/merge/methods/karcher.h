#pragma once
// Karcher mean: the point of the sphere with the least sum of squared angles to all inputs, and their mean norm. Karcher
// 1977, "Riemannian center of mass and mollifier smoothing". Each tensor is one vector, U_i = theta_i / |theta_i|.
//
//     repeat  T = 1/n sum_i phi_i / sin phi_i (U_i - cos phi_i mu),  phi_i = angle(mu, U_i)
//             mu <- cos|T| mu + sin|T| T/|T|                                    until |T| < tol, at most max_iter times
//     theta = mu sum_i |theta_i| / n
//
// mu stays in the span of the inputs, so the iteration runs on their inner products, in float64: the parameter is read once.

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& karcherMethod();

}  // namespace aimerge
