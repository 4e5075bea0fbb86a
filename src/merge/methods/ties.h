#pragma once
// TIES-Merging. Yadav et al. 2023, "TIES-Merging: resolving interference when merging models",
// arXiv 2306.01708, in its words:
//
//   Trim:   of each task vector d_i = theta_i - theta_base "keep the top-k% values based on their magnitude, reset the
//           rest to zero": the k = max(1, floor(density N)) largest |d_i|, of equal ones those at the lower index.
//   Elect:  "the sign with the highest total magnitude across the models": e = sign of sum_i u_i, u_i = w_i d_i;
//           zero elects +.
//   Merge:  "only keeping the parameter values from the models whose signs are the same as the elected sign":
//           m = sum u_i over those, with normalize divided by the sum of their w_i;  theta = theta_base + lambda m.
//
// rescale: when density < 1 the kept values of a task vector are multiplied by sum |d| / sum |kept d| (mergekit).

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& tiesMethod();

}  // namespace aimerge
