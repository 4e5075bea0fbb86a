#include "aimerge/statistics/statistics.h"

#include "aimerge/core/error.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

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

std::optional<std::string> ModuleStatistics::inconsistency() const {
    if (rms.size() != meanAbs.size() || maxAbs.size() != meanAbs.size())
        return fmt::format("mean_abs has {} values, rms {}, max_abs {}; they must agree", meanAbs.size(), rms.size(),
                           maxAbs.size());
    if (inputAxis != -1 && inputAxis != -2)
        return fmt::format("input_axis is {}, expected -1 (the default) or -2", inputAxis);
    if (experts < 0) return fmt::format("{} experts", experts);
    if (!std::cmp_equal(expertTokens.size(), experts))
        return fmt::format("tokens of {} experts, but statistics of {}", expertTokens.size(), experts);
    if (isFused() && (meanAbs.empty() || meanAbs.size() % expertTokens.size() != 0))
        return fmt::format("{} values are no rows of {} experts", meanAbs.size(), experts);
    if (tokens < 0) return fmt::format("tokens is {}, expected a count", tokens);
    const std::int64_t most =
        std::numeric_limits<std::int64_t>::max() / std::max<std::int64_t>(1, experts);  // for their sum
    const auto bad = std::ranges::find_if(expertTokens, [&](std::int64_t count) { return count < 0 || count > most; });
    if (bad != expertTokens.end())
        return fmt::format("tokens of expert {} is {}, expected a count", bad - expertTokens.begin(), *bad);
    return std::nullopt;
}

namespace {

/// One module's statistics in all models.
using OfModels = std::vector<const ModuleStatistics*>;

std::vector<float> combinedValues(const OfModels& models, std::vector<float> ModuleStatistics::*values,
                                  ActivationSource source) {
    std::vector<float> combined((models.front()->*values).size());
    for (std::size_t i = 0; i < combined.size(); ++i) {
        double sum = 0;
        for (const ModuleStatistics* model : models) {
            const float value = (model->*values)[i];
            sum += static_cast<double>(value);
            combined[i] = std::max(combined[i], value);
        }
        if (source == ActivationSource::ExpertsMean)
            combined[i] = static_cast<float>(sum / static_cast<double>(models.size()));
    }
    return combined;
}

ModuleStatistics combinedModule(const OfModels& models, ActivationSource source) {
    ModuleStatistics combined = *models.front();
    for (const auto values : {&ModuleStatistics::meanAbs, &ModuleStatistics::rms, &ModuleStatistics::maxAbs})
        combined.*values = combinedValues(models, values, source);
    for (const ModuleStatistics* model : models) {
        combined.tokens = std::max(combined.tokens, model->tokens);
        for (std::size_t expert = 0; expert < combined.expertTokens.size(); ++expert)
            combined.expertTokens[expert] = std::max(combined.expertTokens[expert], model->expertTokens[expert]);
    }
    if (combined.isFused())
        combined.tokens = std::accumulate(combined.expertTokens.begin(), combined.expertTokens.end(), std::int64_t{0});
    return combined;
}

std::string shapeText(const ModuleStatistics& statistics) {
    const std::string axis = statistics.inputAxis == -1 ? "" : fmt::format(", input_axis {}", statistics.inputAxis);
    return statistics.isFused() ? fmt::format("[{}, {}]{}", statistics.experts, statistics.channels(), axis)
                                : fmt::format("[{}]{}", statistics.channels(), axis);
}

/// @param number of `other` among the models, from 1 on, as in what follows
void requireSameModules(const StatisticsByModule& first, const StatisticsByModule& other, std::size_t number) {
    for (const auto& [module, own] : other)
        if (!first.contains(module))
            throw InputError(
                "statistics of expert {} have module '{}', those of expert 1 do not; only models of the same "
                "modules can be combined",
                number, module);
    for (const auto& [module, statistics] : first) {
        const auto found = other.find(module);
        if (found == other.end())
            throw InputError(
                "statistics of expert 1 have module '{}', those of expert {} do not; only models of the same "
                "modules can be combined",
                module, number);
        if (shapeText(statistics) != shapeText(found->second))
            throw InputError(
                "module '{}': statistics of expert 1 have shape {}, those of expert {} {}; only equal shapes can "
                "be combined",
                module, shapeText(statistics), number, shapeText(found->second));
    }
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
    for (std::size_t i = 1; i < experts.size(); ++i) requireSameModules(experts.front(), experts[i], i + 1);
    for (const auto& [module, first] : experts.front()) {
        OfModels same;
        for (const StatisticsByModule& expert : experts) same.push_back(&expert.find(module)->second);
        combined.emplace(module, combinedModule(same, source));
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
