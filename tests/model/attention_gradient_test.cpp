#include "model/module_gradients.h"

#include "aimerge/core/bfloat.h"
#include "model/attention.h"
#include "model/row_kernels.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

namespace aimerge {
namespace {

at::Tensor random(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
    return at::randn(sizes, at::detail::getDefaultCPUGenerator()).to(dtype);
}

/// Largest difference, as a share of the largest magnitude; of zeros, itself.
double relativeDifference(const at::Tensor& got, const at::Tensor& expected) {
    const double largest = expected.abs().max().item<double>();
    return (got.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>() / (largest > 0 ? largest : 1);
}

struct AttentionCase {
    const char* name;
    std::int64_t heads = 4, keyValueHeads = 2, length = 300, window = 0;
    double softcap = 0, scalar = 0;
};

class AttentionGradientTest : public testing::TestWithParam<AttentionCase> {
protected:
    AttentionGradientTest() {
        at::manual_seed(1);
        config.heads = GetParam().heads;
        config.keyValueHeads = GetParam().keyValueHeads;
        config.headDim = 8;
        config.window = GetParam().window;
        config.softcap = GetParam().softcap;
        config.scale = 1 / std::sqrt(GetParam().scalar > 0 ? GetParam().scalar : 8);
    }

    std::vector<at::Tensor> byAutograd(const std::vector<at::Tensor>& inputs, const at::Tensor& gradient) const {
        std::vector<at::Tensor> leaves;
        for (const at::Tensor& input : inputs) leaves.push_back(input.detach().set_requires_grad(true));
        const at::Tensor mixed = attention(config, splitHeads(leaves[0], config.heads),
                                           splitHeads(leaves[1], config.keyValueHeads).repeat_interleave(groups(), 1),
                                           splitHeads(leaves[2], config.keyValueHeads).repeat_interleave(groups(), 1));
        return torch::autograd::grad({mixed}, leaves, {gradient});
    }

    std::int64_t groups() const { return config.heads / config.keyValueHeads; }
    at::Tensor activation(std::int64_t heads, at::ScalarType dtype) const {
        return random({1, GetParam().length, heads * config.headDim}, dtype);
    }

    AttentionDescription config;
};

TEST_P(AttentionGradientTest, IsThatOfAutograd) {
    const at::Tensor query = activation(config.heads, at::kFloat), key = activation(config.keyValueHeads, at::kFloat),
                     value = activation(config.keyValueHeads, at::kFloat), gradient = activation(config.heads, at::kFloat);

    const AttentionGradient got = attentionGradient(config, query, key, value, gradient);

    const auto expected = byAutograd({query, key, value}, gradient);
    EXPECT_LT(relativeDifference(got.query, expected[0]), 1e-5);
    EXPECT_LT(relativeDifference(got.key, expected[1]), 1e-5);
    EXPECT_LT(relativeDifference(got.value, expected[2]), 1e-5);
}

TEST_P(AttentionGradientTest, OfBf16IsCloseToThatOfTheSameNumbersInFloat32) {
    const at::Tensor query = activation(config.heads, at::kBFloat16), key = activation(config.keyValueHeads, at::kBFloat16),
                     value = activation(config.keyValueHeads, at::kBFloat16),
                     gradient = activation(config.heads, at::kBFloat16);

    const AttentionGradient got = attentionGradient(config, query, key, value, gradient);

    ASSERT_EQ(got.query.scalar_type(), at::kBFloat16);
    const auto expected =
        byAutograd({query.to(at::kFloat), key.to(at::kFloat), value.to(at::kFloat)}, gradient.to(at::kFloat));
    EXPECT_LT(relativeDifference(got.query, expected[0]), 0.02);
    EXPECT_LT(relativeDifference(got.key, expected[1]), 0.02);
    EXPECT_LT(relativeDifference(got.value, expected[2]), 0.02);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, AttentionGradientTest,
    testing::Values(AttentionCase{.name = "grouped"}, AttentionCase{.name = "every_head_its_own", .keyValueHeads = 4},
                    AttentionCase{.name = "one_token", .length = 1}, AttentionCase{.name = "one_block", .length = 128},
                    AttentionCase{.name = "few_heads_at_a_time", .heads = 8, .keyValueHeads = 2, .length = 1100},
                    AttentionCase{.name = "window_within_a_block", .window = 20},
                    AttentionCase{.name = "window_over_blocks", .window = 200},
                    AttentionCase{.name = "window_as_long_as_the_sequence", .window = 300},
                    AttentionCase{.name = "soft_cap", .softcap = 1.5},
                    AttentionCase{.name = "soft_cap_window_and_scalar", .window = 50, .softcap = 3, .scalar = 5}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(WeightGradientTest, PartsAreTheRowsOfTheWhole) {
    at::manual_seed(2);
    const at::Tensor input = random({1, 7, 4096}), gradient = random({1, 7, 600});

    const WeightGradient parts(input, gradient);

    ASSERT_EQ(parts.rows(), 600);
    ASSERT_LT(parts.rowsAtOnce(), 600);
    const at::Tensor whole = at::matmul(gradient.squeeze(0).t(), input.squeeze(0));
    for (std::int64_t first = 0; first < parts.rows(); first += parts.rowsAtOnce()) {
        const std::int64_t count = std::min(parts.rowsAtOnce(), parts.rows() - first);
        EXPECT_LT(relativeDifference(parts.ofRows(first, count), whole.narrow(0, first, count)), 1e-6) << first;
    }
}

TEST(RmsNormGradient, IsThatOfAutograd) {
    at::manual_seed(3);
    constexpr double kEps = 0.25;  // so large that it counts
    const at::Tensor x = random({5, 19}), factors = random({19}), gradient = random({5, 19});
    at::Tensor byX = at::empty_like(x), byFactors = at::full({19}, 9.0f);

    kernels::rmsNormGradient(x.const_data_ptr<float>(), factors.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
                             byX.mutable_data_ptr<float>(), byFactors.mutable_data_ptr<float>(), 5, 19, kEps);

    const at::Tensor leaf = x.detach().clone().set_requires_grad(true), scale = factors.clone().set_requires_grad(true);
    const at::Tensor output = leaf * at::rsqrt(leaf.square().mean(-1, true) + kEps) * scale;
    const auto expected = torch::autograd::grad({output}, {leaf, scale}, {gradient});
    EXPECT_LT(relativeDifference(byX, expected[0]), 1e-6);
    EXPECT_LT(relativeDifference(byFactors, expected[1]), 1e-6);
}

TEST(RmsNormGradient, OfBf16IsRoundedOnce) {
    // For a row (2, -2) with eps 0 the scale is 1/2: the gradient along the row vanishes, that across it is halved.
    const std::vector<kernels::Bf16> x{bf16FromFloat(2), bf16FromFloat(-2)}, gradient{bf16FromFloat(3), bf16FromFloat(3)};
    const std::vector<float> factors{1, 1 + 0x1p-8f};  // in float32: a BF16 has no such number
    std::vector<kernels::Bf16> byX(2);
    std::vector<float> byFactors(2);

    kernels::rmsNormGradient(x.data(), factors.data(), gradient.data(), byX.data(), byFactors.data(), 1, 2, 0.0f);

    EXPECT_EQ(byFactors, (std::vector<float>{3, -3}));
    const float across = (3 + 3 * (1 + 0x1p-8f)) / 4;  // half of the mean of both
    EXPECT_EQ(byX, (std::vector<kernels::Bf16>{bf16FromFloat(across), bf16FromFloat(across)}));
}

}  // namespace
}  // namespace aimerge
