#pragma once
// The heat map of a report, from a statistics log.

#include "aimerge/report/figures.h"
#include "aimerge/statistics/statistics.h"

namespace aimerge {

/// Modules of layers ("model.layers.3.mlp.up_proj") by layer and last part of the name, in the order of a decoder layer;
/// modules outside of layers have no place in it. @param name how the log is called in the caption
ActivityMap activityMap(const StatisticsLog& log, const std::string& name);

}  // namespace aimerge
