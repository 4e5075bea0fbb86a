#include "calibration/bad_activation.h"

#include "aimerge/core/error.h"

#include <ATen/ATen.h>

namespace aimerge {

void throwBadActivation(const ObservationPlace& place, ActivationPoint point, std::int64_t layer, const at::Tensor& input) {
    std::int64_t sequence = 0;
    const auto usable = [&](std::int64_t s) {
        return input.select(0, s).to(at::kFloat).square().sum().isfinite().item<bool>();
    };
    while (sequence + 1 < input.size(0) && usable(sequence)) ++sequence;
    throw InputError(
        "{}: activations entering {} are NaN, infinite or beyond 1e19 in calibration block {} (rank {}); "
        "check the model's weights and that token block, or calibrate with dtype float32",
        place.model, modulesAt(point, layer).front(), place.firstBlock + sequence, place.rank);
}

}  // namespace aimerge
