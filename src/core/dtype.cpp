#include "aimerge/core/dtype.h"

#include <array>

namespace aimerge {
namespace {

struct DtypeFacts {
    Dtype dtype;
    std::size_t bits;
    bool floating;
    std::string_view safetensors;
    std::string_view torch;
};

// In the order of the enumeration, so that a Dtype is an index.
constexpr std::array kFacts{
    DtypeFacts{Dtype::Bool, 8, false, "BOOL", "bool"},
    DtypeFacts{Dtype::U8, 8, false, "U8", "uint8"},
    DtypeFacts{Dtype::I8, 8, false, "I8", "int8"},
    DtypeFacts{Dtype::F8E4M3, 8, true, "F8_E4M3", "float8_e4m3fn"},
    DtypeFacts{Dtype::F8E5M2, 8, true, "F8_E5M2", "float8_e5m2"},
    DtypeFacts{Dtype::I16, 16, false, "I16", "int16"},
    DtypeFacts{Dtype::U16, 16, false, "U16", "uint16"},
    DtypeFacts{Dtype::F16, 16, true, "F16", "float16"},
    DtypeFacts{Dtype::BF16, 16, true, "BF16", "bfloat16"},
    DtypeFacts{Dtype::I32, 32, false, "I32", "int32"},
    DtypeFacts{Dtype::U32, 32, false, "U32", "uint32"},
    DtypeFacts{Dtype::F32, 32, true, "F32", "float32"},
    DtypeFacts{Dtype::I64, 64, false, "I64", "int64"},
    DtypeFacts{Dtype::U64, 64, false, "U64", "uint64"},
    DtypeFacts{Dtype::F64, 64, true, "F64", "float64"},
    DtypeFacts{Dtype::F4, 4, true, "F4", "float4_e2m1fn_x2"},
    DtypeFacts{Dtype::F6E2M3, 6, true, "F6_E2M3", ""},
    DtypeFacts{Dtype::F6E3M2, 6, true, "F6_E3M2", ""},
    DtypeFacts{Dtype::F8E8M0, 8, true, "F8_E8M0", "float8_e8m0fnu"},
    DtypeFacts{Dtype::C64, 64, true, "C64", "complex64"},
};

constexpr bool isInEnumerationOrder() {
    for (std::size_t i = 0; i < kFacts.size(); ++i)
        if (static_cast<std::size_t>(kFacts[i].dtype) != i) return false;
    return true;
}
static_assert(isInEnumerationOrder());

const DtypeFacts& factsOf(Dtype dtype) {
    return kFacts[static_cast<std::size_t>(dtype)];
}

}  // namespace

std::size_t bitsPerElement(Dtype dtype) {
    return factsOf(dtype).bits;
}

std::size_t bytesPerElement(Dtype dtype) {
    constexpr std::size_t kBitsPerByte = 8;
    return (bitsPerElement(dtype) + kBitsPerByte - 1) / kBitsPerByte;
}

bool isFloating(Dtype dtype) {
    return factsOf(dtype).floating;
}

bool isMergeable(Dtype dtype) {
    return dtype == Dtype::BF16 || dtype == Dtype::F16 || dtype == Dtype::F32 || dtype == Dtype::F64;
}

std::string_view safetensorsName(Dtype dtype) {
    return factsOf(dtype).safetensors;
}

std::string_view torchName(Dtype dtype) {
    return factsOf(dtype).torch;
}

std::optional<Dtype> dtypeFromSafetensorsName(std::string_view name) {
    for (const DtypeFacts& facts : kFacts)
        if (facts.safetensors == name) return facts.dtype;
    return std::nullopt;
}

std::optional<Dtype> dtypeFromTorchName(std::string_view name) {
    if (name.starts_with("torch.")) name.remove_prefix(6);
    for (const DtypeFacts& facts : kFacts)
        if (facts.torch == name && !name.empty()) return facts.dtype;
    return std::nullopt;
}

}  // namespace aimerge
