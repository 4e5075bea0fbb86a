#pragma once
// An interface to observe what passes through a decoder: activation statistics and other measurements.

#include "aimerge/architecture/decoder_description.h"

#include <ATen/core/Tensor.h>

namespace aimerge {

class ActivationObserver {
public:
    virtual ~ActivationObserver() = default;
    /// What enters the modules that DecoderDescription::modulesAt() names. `input` is contiguous, [sequences, length,
    /// channels] (of a head's norm a row for each head) in the compute dtype, and only valid during the call.
    virtual void observe(const ModuleInput& where, const at::Tensor& input) = 0;
};

}  // namespace aimerge
