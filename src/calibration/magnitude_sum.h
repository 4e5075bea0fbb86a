#pragma once
// sum += |values|, for gradients as they come: one pass over both instead of three.

#include <cstdint>
#include <span>

namespace aimerge {

/// @pre both of one length
void addMagnitudes(std::span<float> sum, std::span<const float> values);
/// bf16 values as their bits.
void addMagnitudes(std::span<float> sum, std::span<const std::uint16_t> values);

}  // namespace aimerge
