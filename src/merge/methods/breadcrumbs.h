#pragma once
// Model breadcrumbs. Davari and Belilovsky 2023, "Model breadcrumbs: scaling multi-task model merging with sparse masks",
// arXiv 2312.06795: of each task vector the largest values (outliers) and the smallest (noise) are dropped. Of N elements,
// in ascending order of |d_i|, the k = floor(density N) from position N - k - floor(gamma N) on are kept (from 0 on, where
// that is negative: the density wins over gamma); among equal ones those at lower indices count as larger. density 1 keeps
// everything.
//
// breadcrumbs adds up what is left, breadcrumbs_ties keeps what agrees with the elected sign (merge/combine/task_vectors.h).

#include "aimerge/merge/method.h"

namespace aimerge {

const Method& breadcrumbsMethod();
const Method& breadcrumbsTiesMethod();

}  // namespace aimerge
