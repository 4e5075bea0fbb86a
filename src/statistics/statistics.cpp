#include "aimerge/statistics/statistics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace aimerge {

const std::vector<float>& ModuleStatistics::values(Statistic statistic) const {
    switch (statistic) {
        case Statistic::Rms:
            return rms;
        case Statistic::MaxAbs:
            return maxAbs;
        case Statistic::MeanAbs:
            return meanAbs;
        case Statistic::Sensitivity:
        case Statistic::SensitivityChannel:
            break;  // is no statistic of a module's input
    }
    throw std::logic_error("a module has no " + std::string(statisticName(statistic)));
}

std::vector<float> importance(const std::vector<float>& statistic) {
    float largest = 0;
    for (const float value : statistic) largest = std::max(largest, std::fabs(value));
    std::vector<float> result(statistic.size(), 0.0f);
    if (largest == 0) return result;
    for (std::size_t i = 0; i < statistic.size(); ++i) result[i] = std::fabs(statistic[i]) / largest;
    return result;
}

}  // namespace aimerge
