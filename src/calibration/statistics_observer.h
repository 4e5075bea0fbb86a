#pragma once
// Sums up what enters every module of the layers a rank runs, part of the corpus by part (distributed/stage.h). An input
// that several modules share is summed once.

#include "aimerge/distributed/stage.h"
#include "aimerge/statistics/statistics.h"
#include "calibration/bad_activation.h"
#include "calibration/channel_sums.h"
#include "calibration/stage_observer.h"

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

/// For each input of modules, the sums of consecutive parts of the corpus; the first ones are added up.
using SumsByInput = std::map<ModuleInput, std::vector<ChannelSums>>;

/// Adds a part to those before it.
void addPart(const ChannelSums& part, ChannelSums& sums);

/// Enters what the sums say under every module that the input enters.
void addModules(const DecoderDescription& decoder, const ModuleInput& input, const ChannelSums& sums,
                StatisticsByModule& modules);

class StatisticsObserver : public StageObserver {
public:
    /// The model's name and the rank are for messages.
    /// @param steps the rank's
    StatisticsObserver(std::string model, const DecoderDescription& decoder, int rank, const MicroBatches& steps);
    ~StatisticsObserver() override;

    void beginMicroBatch(std::int64_t firstBlock) override;

    /// @throws InputError naming module, block and rank when the input holds NaN, infinity or a value beyond 1e19. What is
    ///         summed on a GPU is looked at later: in beginMicroBatch(), or in takeSums() at the latest
    void observe(const ModuleInput& where, const at::Tensor& input) override;

    /// @pre the steps are the whole corpus
    StatisticsByModule ofLayer(std::int64_t layer) override;

    /// Once.
    SumsByInput takeSums();

private:
    struct OnDevice;

    /// Brings what was summed on a GPU to sums_.
    void download();

    /// What the part's inputs are added to.
    ChannelSums& currentSums(const ModuleInput& key, std::int64_t channels);

    ObservationPlace place_;
    MicroBatches steps_;
    int part_ = 0;
    std::map<ModuleInput, std::map<int, ChannelSums>> sums_;  // by part
    std::unique_ptr<OnDevice> onDevice_;                      // made when the first input is on a GPU
};

}  // namespace aimerge
