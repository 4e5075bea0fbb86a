#pragma once
// The statistic of an expert of a mixture that few tokens came to. Few tokens say little, and what they say is biased:
// divided by the largest of few values the others look small, so that a rare expert would change freely by an artefact. So
// what enters an expert from its block is blended with what the block's other tokens are like.

#include "aimerge/architecture/architecture.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/merge/relaxation.h"
#include "aimerge/statistics/statistics.h"

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// A of a tensor of a mixture's expert, or of all experts: docs/methods.md, "Mixtures of experts".
/// @pre the statistics have parameter.module, or it is fused
/// @throws InputError naming the module: another number of experts or channels, along another axis
ChannelImportance importanceOfExperts(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                                      const Parameter& parameter, const AimConfig& aim,
                                      const StatisticsByModule& statistics);

/// The statistic itself, [matrices, channels] in the layout of importanceOf(). @param module whose it is, one of
/// `statistics`
std::vector<float> inputStatistic(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                                  const std::string& module, const AimConfig& aim, const StatisticsByModule& statistics);

}  // namespace aimerge
