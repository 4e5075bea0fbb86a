#pragma once
// The message about activations that cannot be measured.

#include "aimerge/architecture/decoder_description.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace aimerge {

/// Where an observer is in the model and in the corpus.
struct ObservationPlace {
    std::string model;
    DecoderDescription decoder;
    int rank = 0;
    std::int64_t firstBlock = 0;  // of the micro-batch
};

/// @throws InputError naming module, block and rank. @pre a sequence of `input` holds NaN, infinity or a value beyond 1e19
[[noreturn]] void throwBadActivation(const ObservationPlace& place, const ModuleInput& where, const at::Tensor& input);

/// As above, when all that is known is that it is one of `sequences` blocks.
[[noreturn]] void throwBadActivation(const ObservationPlace& place, const ModuleInput& where, std::int64_t firstBlock,
                                     std::int64_t sequences);

}  // namespace aimerge
