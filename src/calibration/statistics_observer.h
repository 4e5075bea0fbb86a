#pragma once
// Sums up what enters every module of the layers a rank runs. An input that several modules share is summed once.

#include "aimerge/statistics/statistics.h"
#include "calibration/bad_activation.h"
#include "calibration/channel_sums.h"
#include "calibration/stage_observer.h"

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace aimerge {

/// A point of the decoder; of FinalNorm and Head there is one, with layer -1.
struct ObservedPoint {
    std::int64_t layer;
    ActivationPoint point;

    auto operator<=>(const ObservedPoint&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm of clang-tidy 14
};

using StatisticsByPoint = std::map<ObservedPoint, ModuleStatistics>;

class StatisticsObserver : public StageObserver {
public:
    /// The model's name and the rank are for messages.
    StatisticsObserver(std::string model, int rank);
    ~StatisticsObserver() override;

    void beginMicroBatch(std::int64_t firstBlock) override;

    /// @throws InputError naming module, block and rank when the input holds NaN, infinity or a value beyond 1e19. What is
    ///         summed on a GPU is looked at later: in beginMicroBatch(), or in statistics() at the latest
    void observe(ActivationPoint point, std::int64_t layer, const at::Tensor& input) override;

    StatisticsByPoint statistics();

private:
    ObservationPlace place_;
    std::map<ObservedPoint, ChannelSums> sums_;
    struct OnDevice;
    std::unique_ptr<OnDevice> onDevice_;  // made when the first input is on a GPU
};

}  // namespace aimerge
