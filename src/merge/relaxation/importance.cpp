#include "merge/relaxation/importance.h"

#include "aimerge/core/hash.h"
#include "aimerge/core/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

namespace aimerge {
namespace {

float largest(const std::vector<float>& values) {
    return values.empty() ? 0 : *std::ranges::max_element(values);
}

/// The value that a share q of the values does not exceed, interpolated linearly as numpy.quantile does.
float quantile(std::vector<float> values, double q) {
    const double place = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const auto lower = values.begin() + static_cast<std::ptrdiff_t>(below);
    std::ranges::nth_element(values, lower);
    if (below + 1 == values.size()) return *lower;
    const float upper = *std::min_element(lower + 1, values.end());
    return static_cast<float>(*lower + (place - static_cast<double>(below)) * (static_cast<double>(upper) - *lower));
}

/// The largest value of the modules of the layer, or of all.
float largestOfSeveral(const Architecture& architecture, const std::string& module, const StatisticsByModule& statistics,
                       const AimConfig& aim) {
    const Place place = architecture.placeOf(module);
    float scale = 0;
    for (const auto& [name, values] : statistics) {
        const Place other = architecture.placeOf(name);
        const bool counts = aim.normalisation == Normalisation::Global ||
                            (place.part == Part::Layer ? other.isLayer(place.stack, place.layer)
                                                       : other.part == place.part && other.stack == place.stack);
        if (counts) scale = std::max(scale, largest(values.values(aim.statistic)));
    }
    return scale;
}

/// The logistic curve around one half, stretched so that 0 stays 0 and 1 stays 1.
float sigmoid(float a, double steepness) {
    const auto curve = [&](double x) { return 1 / (1 + std::exp(-steepness * (x - 0.5))); };
    return static_cast<float>((curve(a) - curve(0)) / (curve(1) - curve(0)));
}

/// 1 for the most salient share of the channels, at least one, and 0 for the others; of equal ones the first count.
std::vector<float> topShare(const std::vector<float>& importance, double share) {
    std::vector<std::size_t> order(importance.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater(), [&](std::size_t channel) { return importance[channel]; });
    const auto count = static_cast<std::size_t>(std::ceil(share * static_cast<double>(importance.size())));
    std::vector<float> top(importance.size());
    for (std::size_t i = 0; i < count; ++i)
        if (importance[order[i]] > 0) top[order[i]] = 1;
    return top;
}

/// @param scale what the values are divided by
std::vector<float> scaledImportance(const std::string& module, std::vector<float> importance, float scale,
                                    const AimConfig& aim) {
    for (float& a : importance) a = scale > 0 ? std::min(1.0f, a / scale) : 0.0f;
    if (aim.shape == RelaxationShape::Top)
        importance = topShare(importance, aim.shapeValue);
    else
        applyElementShape(importance, aim);
    if (aim.control == AimControl::Shuffled) return shuffled(importance, aim.calibration.seed, module);
    if (aim.control == AimControl::Mean && !importance.empty()) {
        const double sum = std::accumulate(importance.begin(), importance.end(), 0.0);
        std::ranges::fill(importance, static_cast<float>(sum / static_cast<double>(importance.size())));
    }
    return importance;
}

}  // namespace

std::vector<float> shuffled(const std::vector<float>& importance, std::uint64_t seed, const std::string& module) {
    std::uint64_t key = 0;
    std::memcpy(&key, digestOf(module).bytes.data(), sizeof key);
    std::vector<float> dealt;
    for (const std::size_t from : seededPermutation(importance.size(), seed ^ key)) dealt.push_back(importance[from]);
    return dealt;
}

void applyElementShape(std::span<float> importance, const AimConfig& aim) {
    if (aim.shape == RelaxationShape::Power)
        for (float& a : importance) a = static_cast<float>(std::pow(static_cast<double>(a), aim.shapeValue));
    if (aim.shape == RelaxationShape::Sigmoid)
        for (float& a : importance) a = sigmoid(a, aim.shapeValue);
}

std::vector<float> importanceOfChannels(const std::string& module, const std::vector<float>& values, const AimConfig& aim) {
    const float scale =
        aim.normalisation == Normalisation::Quantile && !values.empty() ? quantile(values, aim.quantile) : largest(values);
    return scaledImportance(module, values, scale, aim);
}

std::vector<float> importanceOfModule(const Architecture& architecture, const std::string& module,
                                      const std::vector<float>& values, const StatisticsByModule& statistics,
                                      const AimConfig& aim) {
    const bool looksAtOthers = aim.normalisation == Normalisation::Layer || aim.normalisation == Normalisation::Global;
    if (!looksAtOthers) return importanceOfChannels(module, values, aim);
    return scaledImportance(module, values, largestOfSeveral(architecture, module, statistics, aim), aim);
}

}  // namespace aimerge
