#pragma once
// A tensor of a base model as a LoRA adapter changes it, computed on the fly: W + scaling B A in float32 (checkpoint/
// adapter.h), the product by itself, then scaled, then added, as PEFT's merge_and_unload does. Nothing of the size of W is
// held; the factors are, in float32. The bits do not depend on which stretches are asked for.

#include "aimerge/merge/tensor_source.h"

#include <memory>

namespace aimerge {

/// @pre update is view.model->updateOf(*view.tensor)
/// @throws InputError naming file and tensor: a factor has a value that is not finite
std::shared_ptr<const TensorSource> adaptedSource(const InputView& view, const LowRankUpdate& update);

}  // namespace aimerge
