#pragma once
// A tensor of a base model as an adapter changes it, computed on the fly in float32 (the formulas are in
// checkpoint/adapter.h). The product B A by itself, then scaled, then added, as PEFT's merge_and_unload does. DoRA's norms
// are sums in float64, rounded once. PEFT adds the squares in float32, so that a value may differ in its last bits. Nothing
// of the size of W is held; the factors are, in float32. The bits do not depend on which stretches are asked for.

#include "aimerge/merge/tensor_source.h"

#include <memory>

namespace aimerge {

/// DoRA reads the tensor once for its norms.
/// @pre update is view.model->updateOf(*view.tensor)
/// @throws InputError naming file and tensor: a factor, a magnitude or a row has a value that is not finite
std::shared_ptr<const TensorSource> adaptedSource(const InputView& view, const ParameterUpdate& update);

}  // namespace aimerge
