#pragma once
// From what was measured to how much each input channel is held back: A in [0, 1] of the relaxation (merge/relaxation.h).
//
//     A = shape(normalised(a))      a: the statistic of the module's input, one value per channel
//
// The paper (arXiv 2502.02421, Eq. 4) divides by the module's largest value and uses the result as it is. Everything else is
// an experiment beyond it; docs/methods.md has a table.

#include "aimerge/architecture/architecture.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// A of a module, float32 [in_features]. All zeros where the statistic is.
/// @param module that of `values`; by its name the control Shuffled deals them out
/// @param values its statistic, one per channel
/// @param statistics of all modules, for the normalisations that look at others
std::vector<float> importanceOfModule(const Architecture& architecture, const std::string& module,
                                      const std::vector<float>& values, const StatisticsByModule& statistics,
                                      const AimConfig& aim);

/// A of any values, one per channel. @pre aim normalises within the module
std::vector<float> importanceOfChannels(const std::string& module, const std::vector<float>& values, const AimConfig& aim);

/// The control Shuffled: A dealt out to other channels, by numbers that are keyed by seed and module.
std::vector<float> shuffled(const std::vector<float>& importance, std::uint64_t seed, const std::string& module);

/// Applies the shapes linear, power and sigmoid to values that are already normalised, each by itself.
void applyElementShape(std::span<float> importance, const AimConfig& aim);

}  // namespace aimerge
