#pragma once
// An activation observer that knows where a stage stands in its work.

#include "aimerge/model/activation_observer.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>

namespace aimerge {

class StageObserver : public ActivationObserver {
public:
    /// The next observations are of sequences that are blocks [firstBlock, ...) of the corpus.
    virtual void beginMicroBatch(std::int64_t firstBlock) = 0;
    /// Under LayerOrder::OneAtATime: all micro-batches have passed the layer.
    virtual void finishLayer(std::int64_t /*layer*/) {}
    /// Under LayerOrder::Sequential: what all micro-batches that passed the layer say of its modules.
    virtual StatisticsByModule ofLayer(std::int64_t /*layer*/) { return {}; }
};

}  // namespace aimerge
