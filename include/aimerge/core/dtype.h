#pragma once
// Element types of checkpoint tensors, with the names safetensors ("BF16") and torch ("bfloat16") give them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace aimerge {

enum class Dtype : std::uint8_t { Bool, U8, I8, F8E4M3, F8E5M2, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64 };

std::size_t bytesPerElement(Dtype dtype);
bool isFloating(Dtype dtype);

/// True for the types that can be merged: BF16, F16, F32, F64.
bool isMergeable(Dtype dtype);

std::string_view safetensorsName(Dtype dtype);
std::string_view torchName(Dtype dtype);
std::optional<Dtype> dtypeFromSafetensorsName(std::string_view name);

/// Accepts "bfloat16" as well as "torch.bfloat16".
std::optional<Dtype> dtypeFromTorchName(std::string_view name);

}  // namespace aimerge
