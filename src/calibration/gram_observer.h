#pragma once
// Gram matrices sum x x^T / tokens of what enters every linear layer; inputs that several layers share once. A
// micro-batch's product is float32, the sum over micro-batches float64: a float32 sum of 256 of them could lose 8 of
// its 24 bits where terms are alike, while within a product libtorch already adds in blocks. Matrices are written out
// when their layer is finished.

#include "calibration/bad_activation.h"
#include "calibration/stage_observer.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace aimerge {

class GramObserver : public StageObserver {
public:
    /// @param folder gets a file per layer, and one for the head. The model's name and the rank are for messages.
    GramObserver(std::filesystem::path folder, std::string model, const DecoderDescription& decoder, int rank)
        : folder_(std::move(folder)), place_{std::move(model), decoder, rank} {}

    void beginMicroBatch(std::int64_t firstBlock) override { place_.firstBlock = firstBlock; }
    /// @throws InputError when the input, or its square, is beyond float32
    void observe(const ModuleInput& where, const at::Tensor& input) override;
    void finishLayer(std::int64_t layer) override;
    /// After the last layer: writes what belongs to none.
    void finish();

private:
    struct Sum {
        at::Tensor matrix;  // float64 [in, in]
        std::int64_t tokens = 0;
    };
    void write(const std::string& fileName, std::map<ModuleInput, Sum>& sums) const;

    std::filesystem::path folder_;
    ObservationPlace place_;
    std::map<ModuleInput, Sum> ofLayer_, ofHead_;
};

}  // namespace aimerge
