#include "aimerge/core/dtype.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

struct DtypeRow {
    Dtype dtype;
    std::size_t bytes;
    bool floating, mergeable;
    std::string_view safetensors, torch;
};

class DtypeTable : public testing::TestWithParam<DtypeRow> {};

TEST_P(DtypeTable, HasItsSizeKindAndNames) {
    const DtypeRow& row = GetParam();

    EXPECT_EQ(bytesPerElement(row.dtype), row.bytes);
    EXPECT_EQ(isFloating(row.dtype), row.floating);
    EXPECT_EQ(isMergeable(row.dtype), row.mergeable);
    EXPECT_EQ(safetensorsName(row.dtype), row.safetensors);
    EXPECT_EQ(torchName(row.dtype), row.torch);
    EXPECT_EQ(dtypeFromSafetensorsName(row.safetensors), row.dtype);
    EXPECT_EQ(dtypeFromTorchName(row.torch), row.dtype);
    EXPECT_EQ(dtypeFromTorchName("torch." + std::string(row.torch)), row.dtype);
}

INSTANTIATE_TEST_SUITE_P(
    All, DtypeTable,
    testing::Values(
        DtypeRow{Dtype::Bool, 1, false, false, "BOOL", "bool"}, DtypeRow{Dtype::U8, 1, false, false, "U8", "uint8"},
        DtypeRow{Dtype::I8, 1, false, false, "I8", "int8"},
        DtypeRow{Dtype::F8E4M3, 1, true, false, "F8_E4M3", "float8_e4m3fn"},
        DtypeRow{Dtype::F8E5M2, 1, true, false, "F8_E5M2", "float8_e5m2"},
        DtypeRow{Dtype::I16, 2, false, false, "I16", "int16"}, DtypeRow{Dtype::U16, 2, false, false, "U16", "uint16"},
        DtypeRow{Dtype::F16, 2, true, true, "F16", "float16"}, DtypeRow{Dtype::BF16, 2, true, true, "BF16", "bfloat16"},
        DtypeRow{Dtype::I32, 4, false, false, "I32", "int32"}, DtypeRow{Dtype::U32, 4, false, false, "U32", "uint32"},
        DtypeRow{Dtype::F32, 4, true, true, "F32", "float32"}, DtypeRow{Dtype::I64, 8, false, false, "I64", "int64"},
        DtypeRow{Dtype::U64, 8, false, false, "U64", "uint64"}, DtypeRow{Dtype::F64, 8, true, true, "F64", "float64"},
        DtypeRow{Dtype::F8E8M0, 1, true, false, "F8_E8M0", "float8_e8m0fnu"},
        DtypeRow{Dtype::C64, 8, true, false, "C64", "complex64"}),
    [](const auto& info) { return std::string(info.param.safetensors); });

TEST(Dtype, KnowsTypesSmallerThanAByte) {
    const struct {
        Dtype dtype;
        std::size_t bits;
        std::string_view name;
    } rows[] = {{Dtype::F4, 4, "F4"}, {Dtype::F6E2M3, 6, "F6_E2M3"}, {Dtype::F6E3M2, 6, "F6_E3M2"}, {Dtype::F64, 64, "F64"}};
    for (const auto& [dtype, bits, name] : rows) {
        EXPECT_EQ(bitsPerElement(dtype), bits);
        EXPECT_EQ(safetensorsName(dtype), name);
        EXPECT_EQ(dtypeFromSafetensorsName(name), dtype);
        EXPECT_EQ(isMergeable(dtype), bits == 64);
    }
}

TEST(Dtype, UnknownNamesAreNothing) {
    EXPECT_EQ(dtypeFromSafetensorsName("bf16"), std::nullopt);
    EXPECT_EQ(dtypeFromSafetensorsName(""), std::nullopt);
    EXPECT_EQ(dtypeFromTorchName("torch.BF16"), std::nullopt);
    EXPECT_EQ(dtypeFromTorchName("torch."), std::nullopt);
    EXPECT_EQ(dtypeFromTorchName(""), std::nullopt);
}

}  // namespace
}  // namespace aimerge
