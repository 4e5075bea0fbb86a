#include "aimerge/statistics/statistics.h"

#include "aimerge/core/error.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string>

namespace aimerge {

const std::vector<float>& ModuleStatistics::values(Statistic statistic) const {
    switch (statistic) {
        case Statistic::Rms:
        case Statistic::Wanda:  // its part that the input has
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

namespace {

/// Of one of a module's statistics, channel by channel.
std::vector<float> combinedValues(const std::vector<const ModuleStatistics*>& experts,
                                  std::vector<float> ModuleStatistics::*values, ActivationSource source) {
    const std::size_t channels = (experts.front()->*values).size();
    std::vector<float> combined(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (const ModuleStatistics* expert : experts) {
            const float value = (expert->*values)[c];
            sum += static_cast<double>(value);
            combined[c] = std::max(combined[c], value);
        }
        if (source == ActivationSource::ExpertsMean)
            combined[c] = static_cast<float>(sum / static_cast<double>(experts.size()));
    }
    return combined;
}

constexpr char kExpertMark = '@';

}  // namespace

StatisticsByModule combineStatistics(const std::vector<StatisticsByModule>& experts, ActivationSource source) {
    StatisticsByModule combined;
    if (source == ActivationSource::Experts) {
        for (std::size_t i = 0; i < experts.size(); ++i)
            for (const auto& [module, own] : experts[i]) combined[fmt::format("{}{}{}", module, kExpertMark, i + 1)] = own;
        return combined;
    }
    for (const auto& [module, first] : experts.at(0)) {
        std::vector<const ModuleStatistics*> same;
        for (const StatisticsByModule& expert : experts) same.push_back(&expert.at(module));
        ModuleStatistics& result = combined[module];
        for (const auto values : {&ModuleStatistics::meanAbs, &ModuleStatistics::rms, &ModuleStatistics::maxAbs})
            result.*values = combinedValues(same, values, source);
        result.tokens = first.tokens;
    }
    return combined;
}

std::vector<StatisticsByModule> separateStatistics(const StatisticsByModule& combined) {
    std::vector<StatisticsByModule> experts;
    for (const auto& [name, statistics] : combined) {
        const std::size_t mark = name.rfind(kExpertMark);
        std::size_t number = 0;
        const char *begin = name.data() + std::min(mark + 1, name.size()), *end = name.data() + name.size();
        const bool hasNumber = mark != std::string::npos && std::from_chars(begin, end, number).ptr == end;
        if (!hasNumber || number == 0 || number > combined.size())
            throw InputError("the statistics of module '{}' are not of one of several experts, as MODULE@NUMBER says", name);
        experts.resize(std::max(experts.size(), number));
        experts[number - 1][name.substr(0, mark)] = statistics;
    }
    return experts;
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
