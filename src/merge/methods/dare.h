#pragma once
// DARE. Yu et al. 2024, "Language models are super Mario: absorbing abilities from homologous models as a free lunch", arXiv
// 2311.03099: each element of a task vector is dropped at random, kept with probability `density`, and the rest rescaled.
//
//     rescale_mode l1               kept values x sum |d| / sum |kept d|, which restores the L1 norm (mergekit 0.1.5)
//     rescale_mode inverse_density  kept values x 1 / density, as the paper has it
//
// dare_linear adds up what is left, dare_ties keeps what agrees with the elected sign (merge/combine/task_vectors.h). A draw is a
// function of the seed, the parameter's name, the expert's place among the models and the element's index.

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& dareLinearMethod();
const Method& dareTiesMethod();

}  // namespace aimerge
