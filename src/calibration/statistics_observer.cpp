#include "calibration/statistics_observer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

template <typename Element>
void addRows(const at::Tensor& input, ChannelSums& sums) {
    const std::int64_t channels = sums.channels();
    const std::int64_t rows = input.numel() / channels;
    const std::int64_t strips = (channels + kStripChannels - 1) / kStripChannels;
    constexpr std::int64_t kElementsPerThread = 65536;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, rows * kStripChannels));
    const auto* values = static_cast<const Element*>(input.const_data_ptr());
    at::parallel_for(0, strips, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t strip = begin; strip < end; ++strip) addStrip(values, rows, strip, sums);
    });
    sums.rows += rows;
}

}  // namespace

void StatisticsObserver::observe(ActivationPoint point, std::int64_t layer, const at::Tensor& input) {
    ChannelSums& sums = sums_.try_emplace(ObservedPoint{layer, point}, input.size(-1)).first->second;
    if (input.scalar_type() == at::kFloat) {
        addRows<float>(input, sums);
    } else {
        addRows<Bf16Bits>(input, sums);
    }
    if (!sums.finite()) throwBadActivation(place_, point, layer, input);
}

StatisticsByPoint StatisticsObserver::statistics() const {
    StatisticsByPoint result;
    for (const auto& [key, sums] : sums_) {
        ModuleStatistics statistics;
        statistics.tokens = sums.rows;
        const auto rows = static_cast<double>(sums.rows);
        for (std::size_t c = 0; c < sums.maxAbs.size(); ++c) {
            statistics.meanAbs.push_back(static_cast<float>(sums.sumAbs[c] / rows));
            statistics.rms.push_back(static_cast<float>(std::sqrt(sums.sumSquares[c] / rows)));
        }
        statistics.maxAbs = sums.maxAbs;
        result.emplace(key, std::move(statistics));
    }
    return result;
}

}  // namespace aimerge
