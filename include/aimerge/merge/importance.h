#pragma once
// From what was measured to how much each input channel is held back: A in [0, 1] of the relaxation (merge/relaxation.h).
//
//     A = shape(normalised(a))      a: the statistic of the module's input, one value per channel
//
// The paper (arXiv 2502.02421, Eq. 4) divides by the module's largest value and uses the result as it is. Everything else is
// an experiment beyond it; docs/methods.md has a table.

#include "aimerge/config/merge_config.h"
#include "aimerge/statistics/statistics.h"

#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// A of a module, float32 [in_features]. All zeros where the statistic is.
/// @param module one of `statistics`
std::vector<float> importanceOfModule(const std::string& module, const StatisticsByModule& statistics, const AimConfig& aim);

/// The same of any values, one per channel. @pre aim normalises within the module
std::vector<float> importanceOfChannels(const std::string& module, const std::vector<float>& values, const AimConfig& aim);

/// Of values that are normalised already, each by itself: the shapes linear, power and sigmoid.
void applyElementShape(std::span<float> importance, const AimConfig& aim);

}  // namespace aimerge
