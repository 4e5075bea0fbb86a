#pragma once
// What goes through a decoder layer, and what is read for it and kept of it.

#include "aimerge/architecture/decoder_description.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace aimerge {

/// A norm or a linear layer in the compute dtype; `bias` is undefined where the file has none.
struct ModuleWeights {
    at::Tensor weight, bias;
};

/// In the order of LayerDescription::modules().
using LoadedLayer = std::vector<ModuleWeights>;

using Tensors = std::vector<at::Tensor>;

/// Sequences on their way through a layer. What is not on its way is undefined.
struct LayerState {
    std::int64_t number = 0;         // of the input that they stand at (LayerDescription::inputs()); 0: before the layer
    at::Tensor hidden, input, kept;  // the streams: [sequences, length, channels]
    at::Tensor query, key, value;    // within attention

    at::Tensor& at(Stream stream) { return stream == Stream::Hidden ? hidden : stream == Stream::Input ? input : kept; }
    const at::Tensor& at(Stream stream) const {
        return stream == Stream::Hidden ? hidden : stream == Stream::Input ? input : kept;
    }
};

/// What the backward pass through a layer needs of the forward pass.
struct KeptLayer {
    at::Tensor input;             // the layer's: [sequences, length, hidden]
    std::vector<Tensors> blocks;  // what each block keeps; empty: to be computed again
};

}  // namespace aimerge
