#pragma once
// Which parameters of a base the factors of an adapter with target_parameters are for. PEFT puts a layer around the module
// for each of its parameters, one around the other, and the file says neither which is which nor how many experts there are.

#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/adapter.h"

#include <span>

namespace aimerge {

/// Moves Adapter::targeted to Adapter::updates, by the base's names: of fused experts, of experts with tensors of their own,
/// or of any other parameter.
/// @param tensors of the base @throws InputError naming file and tensors: the base has none or not all of the parameters,
/// the order of the layers cannot be known, ranks are not the config's
void assignTargetParameters(Adapter& adapter, const Architecture& architecture, std::span<const TensorInfo> tensors);

}  // namespace aimerge
