#include "merge/sources/convert.h"
#include "aimerge/core/bfloat.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

const std::vector<InstructionSet> kAllSets{InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512};

/// All 65536 bit patterns, one byte past alignment.
std::vector<std::byte> allPatterns() {
    std::vector<std::byte> bytes(1 + 2 * 65536);
    for (std::uint32_t i = 0; i < 65536; ++i) {
        const auto pattern = static_cast<std::uint16_t>(i);
        std::memcpy(bytes.data() + 1 + 2 * i, &pattern, 2);
    }
    return bytes;
}

class EveryInstructionSet : public testing::TestWithParam<InstructionSet> {
protected:
    void SetUp() override { limitInstructionSet(GetParam()); }
    void TearDown() override { limitInstructionSet(bestInstructionSet()); }
};
INSTANTIATE_TEST_SUITE_P(, EveryInstructionSet, testing::ValuesIn(kAllSets));

TEST_P(EveryInstructionSet, ReadsAll16BitPatternsAsTheScalarFormsDo) {
    const auto bytes = allPatterns();
    Floats out(65536);
    EXPECT_EQ(toFloat(Dtype::BF16, bytes.data() + 1, out), Finite::No);
    for (std::uint32_t i = 0; i < 65536; ++i)
        ASSERT_EQ(bitsOfFloat(out[i]), bitsOfFloat(floatFromBf16(static_cast<std::uint16_t>(i)))) << i;
    EXPECT_EQ(toFloat(Dtype::F16, bytes.data() + 1, out), Finite::No);
    for (std::uint32_t i = 0; i < 65536; ++i)
        ASSERT_EQ(bitsOfFloat(out[i]), bitsOfFloat(floatFromFp16(static_cast<std::uint16_t>(i)))) << i;
}

TEST_P(EveryInstructionSet, RoundsAsTheScalarFormsDo) {
    Floats in;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 65521)
        in.push_back(floatOfBits(static_cast<std::uint32_t>(bits)));
    for (std::uint32_t i = 0; i < 65536; ++i) in.push_back(floatOfBits((i << 16) | 0x8000u));  // halfway cases of bf16
    std::vector<std::uint16_t> out(in.size());
    fromFloat(in, Dtype::BF16, reinterpret_cast<std::byte*>(out.data()));
    for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(out[i], bf16FromFloat(in[i])) << in[i];
    fromFloat(in, Dtype::F16, reinterpret_cast<std::byte*>(out.data()));
    for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(out[i], fp16FromFloat(in[i])) << in[i];
}

TEST_P(EveryInstructionSet, NoticesWhatIsNotFiniteWhereverItStands) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const std::size_t size : {1u, 16u, 37u, 1024u}) {
        for (const std::size_t place : {std::size_t{0}, size / 2, size - 1}) {
            for (const float bad : {infinity, -infinity, std::nanf("")}) {
                Floats in(size, 1.0f), out(size);
                std::vector<std::byte> bytes(size * sizeof(float));
                EXPECT_EQ(fromFloat(in, Dtype::BF16, bytes.data()), Finite::Yes);
                in[place] = bad;
                EXPECT_EQ(toFloat(Dtype::F32, reinterpret_cast<const std::byte*>(in.data()), out), Finite::No);
                for (const Dtype dtype : {Dtype::BF16, Dtype::F16, Dtype::F32})
                    EXPECT_EQ(fromFloat(in, dtype, bytes.data()), Finite::No);
            }
        }
    }
}

TEST_P(EveryInstructionSet, NoticesOverflowOfTheNarrowerType) {
    std::vector<std::byte> bytes(4);
    EXPECT_EQ(fromFloat(Floats{65504}, Dtype::F16, bytes.data()), Finite::Yes);
    EXPECT_EQ(fromFloat(Floats{65520}, Dtype::F16, bytes.data()), Finite::No);
    EXPECT_EQ(fromFloat(Floats{3.39e38f}, Dtype::BF16, bytes.data()), Finite::Yes);
    EXPECT_EQ(fromFloat(Floats{3.4e38f}, Dtype::BF16, bytes.data()), Finite::No);
    const std::vector<double> wide{1.5, 1e300};
    Floats out(2);
    EXPECT_EQ(toFloat(Dtype::F64, reinterpret_cast<const std::byte*>(wide.data()), std::span(out).first(1)), Finite::Yes);
    EXPECT_EQ(out[0], 1.5f);
    EXPECT_EQ(toFloat(Dtype::F64, reinterpret_cast<const std::byte*>(wide.data()), out), Finite::No);
}

}  // namespace
}  // namespace aimerge
