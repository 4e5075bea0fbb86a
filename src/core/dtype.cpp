#include "aimerge/core/dtype.h"

#include <array>

namespace aimerge {
namespace {

struct DtypeFacts {
    Dtype dtype;
    std::size_t bytes;
    bool floating;
    std::string_view safetensors;
    std::string_view torch;
};

// In the order of the enumeration, so that a Dtype is an index.
constexpr std::array kFacts{
    DtypeFacts{Dtype::Bool, 1, false, "BOOL", "bool"},
    DtypeFacts{Dtype::U8, 1, false, "U8", "uint8"},
    DtypeFacts{Dtype::I8, 1, false, "I8", "int8"},
    DtypeFacts{Dtype::F8E4M3, 1, true, "F8_E4M3", "float8_e4m3fn"},
    DtypeFacts{Dtype::F8E5M2, 1, true, "F8_E5M2", "float8_e5m2"},
    DtypeFacts{Dtype::I16, 2, false, "I16", "int16"},
    DtypeFacts{Dtype::U16, 2, false, "U16", "uint16"},
    DtypeFacts{Dtype::F16, 2, true, "F16", "float16"},
    DtypeFacts{Dtype::BF16, 2, true, "BF16", "bfloat16"},
    DtypeFacts{Dtype::I32, 4, false, "I32", "int32"},
    DtypeFacts{Dtype::U32, 4, false, "U32", "uint32"},
    DtypeFacts{Dtype::F32, 4, true, "F32", "float32"},
    DtypeFacts{Dtype::I64, 8, false, "I64", "int64"},
    DtypeFacts{Dtype::U64, 8, false, "U64", "uint64"},
    DtypeFacts{Dtype::F64, 8, true, "F64", "float64"},
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

std::size_t bytesPerElement(Dtype dtype) {
    return factsOf(dtype).bytes;
}

bool isFloating(Dtype dtype) {
    return factsOf(dtype).floating;
}

bool isMergeable(Dtype dtype) {
    return isFloating(dtype) && bytesPerElement(dtype) >= 2;
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
        if (facts.torch == name) return facts.dtype;
    return std::nullopt;
}

}  // namespace aimerge
