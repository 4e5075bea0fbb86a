#pragma once
// Element types of checkpoint tensors, with the names safetensors ("BF16") and torch ("bfloat16") give them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace aimerge {

enum class Dtype : std::uint8_t {
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    I64,
    U64,
    F64,
    F4,
    F6E2M3,
    F6E3M2,
    F8E8M0,
    C64
};

std::size_t bitsPerElement(Dtype dtype);
std::size_t bytesPerElement(Dtype dtype);  // a part of a byte counts as one: F4 and F6 are packed
bool isFloating(Dtype dtype);              // complex numbers, too

/// True for the types that can be merged: BF16, F16, F32, F64.
bool isMergeable(Dtype dtype);

std::string_view safetensorsName(Dtype dtype);
std::string_view torchName(Dtype dtype);  // empty for F6, which torch does not have
std::optional<Dtype> dtypeFromSafetensorsName(std::string_view name);

/// Accepts "bfloat16" as well as "torch.bfloat16".
std::optional<Dtype> dtypeFromTorchName(std::string_view name);

}  // namespace aimerge
