#pragma once
// Task arithmetic. Ilharco et al. 2023, "Editing models with task arithmetic", arXiv 2212.04089: task vectors are "built by
// subtracting the weights of a pre-trained model from the weights of the same model after fine-tuning" and added to it.
//
//     theta = theta_base + lambda sum_i w_i (theta_i - theta_base)
//
// With normalize the sum is divided by sum w_i (by 1 when that is below 1e-8 in magnitude).

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& taskArithmeticMethod();

}  // namespace aimerge
