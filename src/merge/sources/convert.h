#pragma once
// Conversion of stretches of tensors between the dtypes that can be merged and float32, vectorised. The scalar forms that
// define the results are in core/bfloat.h.

#include "aimerge/core/dtype.h"

#include <cstddef>
#include <span>

namespace aimerge {

enum class Finite : bool { No, Yes };

/// @param in out.size() elements of `from`; need not be aligned
/// @return Finite::No when any result is NaN or infinite. @pre isMergeable(from)
Finite toFloat(Dtype from, const std::byte* in, std::span<float> out);

/// Rounds to nearest even. @param out in.size() elements of `to`; need not be aligned
/// @return Finite::No when any result is NaN or infinite. @pre `to` is BF16, F16 or F32
Finite fromFloat(std::span<const float> in, Dtype to, std::byte* out);

}  // namespace aimerge
