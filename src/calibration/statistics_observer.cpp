#include "calibration/statistics_observer.h"

#if AIMERGE_HAS_CUDA
#include "calibration/device_sums.h"
#endif

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <iterator>

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
/// number of the input.
struct StatisticsObserver::OnDevice {
    static constexpr int kNumberBits = 16, kLayerBits = 16;
    static constexpr std::uint64_t kBehindLayers = 0xFFFF;

    DeviceSummation summation;
    std::map<ModuleInput, std::map<int, DeviceChannelSums>> sums;
    std::int64_t sequences = 1;  // of a micro-batch

    void observe(const ModuleInput& where, const at::Tensor& input, std::int64_t firstBlock, int part) {
        DeviceChannelSums& to = sums[where].try_emplace(part, input.size(-1)).first->second;
        sequences = std::max(sequences, input.size(0));
        const std::uint64_t layer = where.layer < 0 ? kBehindLayers : static_cast<std::uint64_t>(where.layer);
        const auto block = static_cast<std::uint64_t>(firstBlock);
        summation.add(input, to, ((block << kLayerBits | layer) << kNumberBits) | static_cast<std::uint64_t>(where.number));
    }

    void throwIfBad(const ObservationPlace& place) const {
        const std::uint64_t bad = summation.firstBad();
        if (bad == DeviceSummation::kNothing) return;
        const auto lowBits = [](std::uint64_t value, int bits) { return value & ((std::uint64_t{1} << bits) - 1); };
        const std::uint64_t layer = lowBits(bad >> kNumberBits, kLayerBits);
        const ModuleInput where{layer == kBehindLayers ? -1 : static_cast<std::int64_t>(layer),
                                static_cast<std::int64_t>(lowBits(bad, kNumberBits))};
        throwBadActivation(place, where, static_cast<std::int64_t>(bad >> (kNumberBits + kLayerBits)), sequences);
    }
};

#else

struct StatisticsObserver::OnDevice {};

#endif

void addPart(const ChannelSums& part, ChannelSums& sums) {
    for (std::size_t c = 0; c < sums.maxAbs.size(); ++c) {
        sums.sumAbs[c] += part.sumAbs[c];
        sums.sumSquares[c] += part.sumSquares[c];
        sums.maxAbs[c] = std::max(sums.maxAbs[c], part.maxAbs[c]);
    }
    sums.rows += part.rows;
}

void addModules(const DecoderDescription& decoder, const ModuleInput& input, const ChannelSums& sums,
                StatisticsByModule& modules) {
    ModuleStatistics statistics;
    statistics.inputAxis = decoder.inputAxisAt(input);
    statistics.tokens = sums.rows;
    const auto rows = static_cast<double>(sums.rows);
    for (std::size_t c = 0; c < sums.maxAbs.size(); ++c) {
        statistics.meanAbs.push_back(static_cast<float>(sums.sumAbs[c] / rows));
        statistics.rms.push_back(static_cast<float>(std::sqrt(sums.sumSquares[c] / rows)));
    }
    statistics.maxAbs = sums.maxAbs;
    for (const std::string& module : decoder.modulesAt(input)) modules.emplace(module, statistics);
}

StatisticsObserver::StatisticsObserver(std::string model, const DecoderDescription& decoder, int rank,
                                       const MicroBatches& steps)
    : place_{std::move(model), decoder, rank}, steps_(steps) {}
StatisticsObserver::~StatisticsObserver() = default;

void StatisticsObserver::beginMicroBatch(std::int64_t firstBlock) {
    place_.firstBlock = firstBlock;
    part_ = steps_.partOf(firstBlock);
#if AIMERGE_HAS_CUDA
    if (onDevice_) onDevice_->throwIfBad(place_);
#endif
}

void StatisticsObserver::observe(const ModuleInput& where, const at::Tensor& input) {
#if AIMERGE_HAS_CUDA
    if (input.is_cuda()) {
        if (!onDevice_) onDevice_ = std::make_unique<OnDevice>();
        return onDevice_->observe(where, input, place_.firstBlock, part_);
    }
#endif
    ChannelSums& sums = currentSums(where, input.size(-1));
    if (input.scalar_type() == at::kFloat) {
        addRows<float>(input, sums);
    } else {
        addRows<Bf16Bits>(input, sums);
    }
    if (!sums.finite()) throwBadActivation(place_, where, input);
}

ChannelSums& StatisticsObserver::currentSums(const ModuleInput& key, std::int64_t channels) {
    std::map<int, ChannelSums>& parts = sums_[key];
    if (steps_.beginsCorpus() && parts.size() == 2 &&
        !parts.contains(part_)) {  // the second is complete: room for two will do
        addPart(parts.rbegin()->second, parts.begin()->second);
        parts.erase(std::prev(parts.end()));
    }
    return parts.try_emplace(part_, channels).first->second;
}

void StatisticsObserver::download() {
#if AIMERGE_HAS_CUDA
    if (!onDevice_) return;
    onDevice_->summation.wait();
    onDevice_->throwIfBad(place_);
    for (const auto& [key, parts] : onDevice_->sums)
        for (const auto& [part, sums] : parts) sums_[key].insert_or_assign(part, sums.download());
#endif
}

StatisticsByModule StatisticsObserver::ofLayer(std::int64_t layer) {
    download();
    StatisticsByModule modules;
    for (const auto& [key, parts] : sums_) {
        if (key.layer != layer) continue;
        ChannelSums total = parts.begin()->second;
        for (auto part = std::next(parts.begin()); part != parts.end(); ++part) addPart(part->second, total);
        addModules(place_.decoder, key, total, modules);
    }
    return modules;
}

SumsByInput StatisticsObserver::takeSums() {
    download();
    SumsByInput result;
    for (auto& [key, parts] : sums_) {
        std::vector<ChannelSums>& taken = result[key];
        for (auto& [part, sums] : parts) {
            if (steps_.beginsCorpus() && !taken.empty())
                addPart(sums, taken.front());
            else
                taken.push_back(std::move(sums));
        }
    }
    return result;
}

}  // namespace aimerge
