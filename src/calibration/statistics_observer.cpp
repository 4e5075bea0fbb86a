#include "calibration/statistics_observer.h"

#if AIMERGE_HAS_CUDA
#include "calibration/device_sums.h"
#endif

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

#if AIMERGE_HAS_CUDA

/// Sums in the GPU's memory. A place in DeviceSummation's note is the micro-batch's first block, then the layer, then the
/// point.
struct StatisticsObserver::OnDevice {
    static constexpr int kPointBits = 8, kLayerBits = 16;
    static constexpr std::uint64_t kBehindLayers = 0xFFFF;

    DeviceSummation summation;
    std::map<ObservedPoint, DeviceChannelSums> sums;
    std::int64_t sequences = 1;  // of a micro-batch

    void observe(const ObservedPoint& point, const at::Tensor& input, std::int64_t firstBlock) {
        DeviceChannelSums& to = sums.try_emplace(point, input.size(-1)).first->second;
        sequences = std::max(sequences, input.size(0));
        const std::uint64_t layer = point.layer < 0 ? kBehindLayers : static_cast<std::uint64_t>(point.layer);
        const auto block = static_cast<std::uint64_t>(firstBlock);
        summation.add(input, to, ((block << kLayerBits | layer) << kPointBits) | static_cast<std::uint64_t>(point.point));
    }

    void throwIfBad(const ObservationPlace& place) const {
        const std::uint64_t bad = summation.firstBad();
        if (bad == DeviceSummation::kNothing) return;
        const auto lowBits = [](std::uint64_t value, int bits) { return value & ((std::uint64_t{1} << bits) - 1); };
        const std::uint64_t layer = lowBits(bad >> kPointBits, kLayerBits);
        throwBadActivation(place, static_cast<ActivationPoint>(lowBits(bad, kPointBits)),
                           layer == kBehindLayers ? -1 : static_cast<std::int64_t>(layer),
                           static_cast<std::int64_t>(bad >> (kPointBits + kLayerBits)), sequences);
    }
};

#else

struct StatisticsObserver::OnDevice {};

#endif

StatisticsObserver::StatisticsObserver(std::string model, int rank) : place_{std::move(model), rank} {}
StatisticsObserver::~StatisticsObserver() = default;

void StatisticsObserver::beginMicroBatch(std::int64_t firstBlock) {
    place_.firstBlock = firstBlock;
#if AIMERGE_HAS_CUDA
    if (onDevice_) onDevice_->throwIfBad(place_);
#endif
}

void StatisticsObserver::observe(ActivationPoint point, std::int64_t layer, const at::Tensor& input) {
#if AIMERGE_HAS_CUDA
    if (input.is_cuda()) {
        if (!onDevice_) onDevice_ = std::make_unique<OnDevice>();
        return onDevice_->observe({layer, point}, input, place_.firstBlock);
    }
#endif
    ChannelSums& sums = sums_.try_emplace(ObservedPoint{layer, point}, input.size(-1)).first->second;
    if (input.scalar_type() == at::kFloat) {
        addRows<float>(input, sums);
    } else {
        addRows<Bf16Bits>(input, sums);
    }
    if (!sums.finite()) throwBadActivation(place_, point, layer, input);
}

StatisticsByPoint StatisticsObserver::statistics() {
#if AIMERGE_HAS_CUDA
    if (onDevice_) {
        onDevice_->summation.wait();
        onDevice_->throwIfBad(place_);
        for (const auto& [key, sums] : onDevice_->sums) sums_.insert_or_assign(key, sums.download());
    }
#endif
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
