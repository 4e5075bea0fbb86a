#pragma once

#include "aimerge/architecture/rotation.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace aimerge {

/// Tables of the rotary embedding: float32 [maxLength, rotated / 2], for the first `rotated` channels of a head (all of
/// them, except with partial_rotary_factor), rounded to the compute dtype.
struct RotaryTables {
    at::Tensor cosines, sines;
    bool isInterleaved = false;
};

/// On the CPU, by the operations of transformers in float32, so that they have the same bits; the result rounded to the
/// compute dtype. Rope types: default, linear, dynamic (which changes nothing up to max_position_embeddings), llama3, yarn,
/// longrope (for which maxLength decides between its two lists of factors).
/// @throws InputError for others, and for missing fields
RotaryTables makeRotaryTables(const Rotation& rotation, std::int64_t maxLength, at::ScalarType computeType,
                              at::Device device, const std::string& model);

/// Queries or keys by their positions, in place. @param x [sequences, length, heads * headDim]
void rotate(at::Tensor& x, const RotaryTables& tables, std::int64_t heads);
/// The transpose of rotate().
void rotateBack(at::Tensor& gradient, const RotaryTables& tables, std::int64_t heads);

}  // namespace aimerge
