#pragma once
// WIDEN. Yu et al. 2024, "Extend model merging from fine-tuned to pre-trained large language models via weight
// disentanglement", arXiv 2408.03092. Every column j of a weight is a magnitude and a direction, m_j and W_j / m_j; what
// changed in an expert i is
//
//     dm_ij = | m(theta_i)_j - m(theta_base)_j |,   dD_ij = 1 - cos(theta_i column j, theta_base column j).
//
// For both, R_ij = (place of column j in the ascending order of expert i, equal values by column) / columns. Scores are the
// softmax over the experts, and C for what stands out:
//
//     s_ij = exp(R_ij) / sum_k exp(R_kj),   C where R_ij > rho mean_j R_ij = rho (n - 1) / (2 n)
//     S_ij = (s_ij of dm + s_ij of dD) / 2,   theta = theta_base + sum_i S_ij (theta_i - theta_base)
//
// C is score_calibration_value, rho is above_average_value_ratio. A column is what one input channel adds; of the embedding,
// which is stored as [vocabulary, hidden], it is a token's row. Vectors (norms, biases) have R_ij = |theta_ij - base_j| and
// one table of scores.
//
// Norms, cosines and ranks are float64 and computed from inner products with the change d = theta_i - theta_base, so that
// what cancels in their definition does not:
//
//     m(theta_i) - m(base) = (2 <b,d> + <d,d>) / (|theta_i| + |b|)
//     1 - cos = (|b|^2 |d|^2 - <b,d>^2) / (|b| |theta_i| (|b| |theta_i| + <b,theta_i>))       where <b,theta_i> > 0
//
// A column that is zero in the base or the expert has no direction: dD = 0.
// The combine is that of weighted_changes.h.

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& widenMethod();

}  // namespace aimerge
