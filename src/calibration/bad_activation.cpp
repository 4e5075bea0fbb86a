#include "calibration/bad_activation.h"

#include "aimerge/core/error.h"

#include <ATen/ATen.h>

namespace aimerge {

void throwBadActivation(const ObservationPlace& place, const ModuleInput& where, const at::Tensor& input) {
    std::int64_t sequence = 0;
    const auto usable = [&](std::int64_t s) {
        return input.select(0, s).to(at::kFloat).square().sum().isfinite().item<bool>();
    };
    while (sequence + 1 < input.size(0) && usable(sequence)) ++sequence;
    throwBadActivation(place, where, place.firstBlock + sequence, 1);
}

void throwBadActivation(const ObservationPlace& place, const ModuleInput& where, std::int64_t firstBlock,
                        std::int64_t sequences) {
    const std::string blocks = sequences == 1 ? fmt::format("block {}", firstBlock)
                                              : fmt::format("blocks {} to {}", firstBlock, firstBlock + sequences - 1);
    throw InputError(
        "{}: activations entering {} are NaN, infinite or beyond 1e19 in calibration {} (rank {}); "
        "check the model's weights and the tokens there, or calibrate with dtype float32",
        place.model, place.decoder.modulesAt(where).front(), blocks, place.rank);
}

}  // namespace aimerge
