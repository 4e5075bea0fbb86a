#pragma once
// DELLA. Deep, Bhardwaj and Poria 2024, "DELLA-Merging: reducing interference in model merging through magnitude-based
// sampling", arXiv 2406.11617: DARE with keep probabilities that grow with the magnitude's rank r = 0 ... n-1 within its row
// of n elements (a vector is one row; equal magnitudes share the mean of their ranks).
//
//     p_r = (density - epsilon) + 2 epsilon r / (n - 1)          density, where n = 1
//
// Rescaling as for DARE: to the L1 norm, or with rescale_mode inverse_density each kept value x 1 / p_r, as the paper has
// it. della keeps what agrees with the elected sign, della_linear adds up what is left (merge/combine/task_vectors.h). density 1
// keeps everything.

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& dellaMethod();
const Method& dellaLinearMethod();

}  // namespace aimerge
