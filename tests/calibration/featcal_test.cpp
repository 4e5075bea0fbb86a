#include "aimerge/calibration/featcal.h"
#include "aimerge/calibration/featcal_cost.h"

#include "calibration/feature_sums.h"
#include "calibration/feature_system.h"
#include "calibration/layer_states.h"
#include "calibration/text_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::Pair;

const at::Device kProcessors(at::kCPU);

at::Tensor numbers(std::vector<double> values, at::IntArrayRef shape) {
    return at::tensor(values, at::kDouble).reshape(shape);
}

TEST(PartTree, FoldsPartsIntoNodesThatEndWhereNodesOfAllPartsEnd) {
    EXPECT_THAT(PartTree::nodesOf(0, 8), ElementsAre(Pair(0, 8)));
    EXPECT_THAT(PartTree::nodesOf(0, 7), ElementsAre(Pair(0, 4), Pair(4, 2), Pair(6, 1)));
    EXPECT_THAT(PartTree::nodesOf(3, 8), ElementsAre(Pair(3, 1), Pair(4, 4)));
    EXPECT_THAT(PartTree::nodesOf(5, 6), ElementsAre(Pair(5, 1)));
    EXPECT_THAT(PartTree::nodesOf(2, 2), ElementsAre());
}

/// Of numbers whose sums depend on the order in which they are added.
at::Tensor totalOf(const std::vector<int>& cuts) {
    const at::Tensor parts = at::exp2(at::arange(8, at::kDouble) * 11) * at::sin(at::arange(8, at::kDouble) + 1);
    PartTree root;
    for (std::size_t rank = 0; rank + 1 < cuts.size(); ++rank) {
        PartTree own;
        for (int part = cuts[rank]; part < cuts[rank + 1]; ++part) own.insert({part, 1, parts[part].reshape({1}).clone()});
        for (const PartTree::Node& node : own.nodes()) root.insert(node);
    }
    return root.total();
}

TEST(PartTree, HasTheSameBitsHoweverPartsAreSharedOut) {
    const at::Tensor alone = totalOf({0, 8});
    for (const std::vector<int>& cuts : {std::vector{0, 4, 8}, {0, 3, 5, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 0, 7, 8}})
        EXPECT_TRUE(alone.equal(totalOf(cuts)));
}

TEST(FeatureSums, AreThoseOfAllTokens) {
    at::manual_seed(3);
    const at::Tensor x = at::randn({5, 700, 6}), y = at::randn({5, 700, 4}), z = at::randn({5, 700, 3});
    FeatureSums sums = FeatureSums::ofLinearLayers(6, 7, true, kProcessors);
    for (int step = 0; step < 5; ++step) sums.addLinear(x[step], std::array{y[step], z[step]});  // two products
    sums.finish();

    const at::Tensor rows = at::cat({x, y, z}, -1).reshape({-1, 13}).to(at::kDouble);
    const at::Tensor products = at::einsum("ti,tj->ij", {rows, rows.narrow(1, 0, 6)});
    EXPECT_EQ(sums.tokens(), 3500);
    EXPECT_TRUE(at::allclose(sums.products(), products, 1e-5, 1e-3));
    EXPECT_TRUE(at::allclose(sums.totals(), rows.sum(0), 1e-5, 1e-3));
}

TEST(FeatureSums, OfANormAreSquaresOfWhatItNormalises) {
    const at::Tensor x = at::tensor({3.0F, 4.0F, 0.0F, 0.0F, 2.0F, 0.0F, 0.0F, 0.0F}).reshape({1, 2, 4});
    FeatureSums sums = FeatureSums::ofNorm(4, kProcessors);
    sums.addNorm(x, 0);
    sums.finish();
    EXPECT_EQ(sums.tokens(), 2);
    // Mean squares 25/4 and 1: z^2 is (36, 64, 0, 0) / 25 and (4, 0, 0, 0).
    EXPECT_TRUE(at::allclose(sums.totals(), numbers({36.0 / 25 + 4, 64.0 / 25, 0, 0}, {4}), 1e-6, 0));
}

/// One channel in, one out: x of two tokens, and what the teacher gives for them.
FeatureSums sumsOf(double x1, double y1, double x2, double y2) {
    FeatureSums sums = FeatureSums::ofLinearLayers(1, 1, true, kProcessors);
    sums.addLinear(at::tensor({x1, x2}, at::kFloat).reshape({2, 1}),
                   std::array{at::tensor({y1, y2}, at::kFloat).reshape({2, 1})});
    sums.finish();
    return sums;
}

TEST(FeatureSystem, GivesWhatWasComputedByHand) {
    FeatureSystem system(1, 1, kProcessors);
    // C = (1 + 9) / 2 = 5, X = (1 * 4 + 3 * 8) / 2 - 2 * mean x * bias = 14 - 2 = 12.
    system.add(sumsOf(1, 4, 3, 8), numbers({1}, {1}), 2);
    // C = (4 + 4) / 2 = 4, X = (2 * 1 - 2 * -1) / 2 = 2.
    system.add(sumsOf(2, 1, -2, -1), numbers({0}, {1}), 1);
    const at::Tensor weights = *system.solveWeights(0.5, std::array{numbers({10}, {1, 1})});
    // (2 * 12 / 5 + 2 / 4 + 0.5 * 10) / (2 + 1 + 0.5)
    EXPECT_NEAR(weights.item<double>(), (4.8 + 0.5 + 5) / 3.5, 1e-12);
    // c = 2/5 and 1/4; the means are y 6, x 2 and y 0, x 0.
    const double weight = weights.item<double>();
    const at::Tensor biases = system.solveBiases(0.5, weights, numbers({3}, {1}));
    EXPECT_NEAR(biases.item<double>(), (0.4 * (6 - 2 * weight) + 0.5 * 3) / (0.4 + 0.25 + 0.5), 1e-12);
}

TEST(FeatureSystem, IsTheMergeWhereNothingEnters) {
    FeatureSystem system(1, 1, kProcessors);
    system.add(sumsOf(0, 1, 0, 2), numbers({0}, {1}), 1);
    EXPECT_DOUBLE_EQ(system.solveWeights(0.25, std::array{numbers({-7}, {1, 1})})->item<double>(), -7);
}

TEST(FeatureSystem, CannotSolveWhatIsSingular) {
    FeatureSums sums = FeatureSums::ofLinearLayers(2, 1, false, kProcessors);
    const at::Tensor same = at::tensor({1.0F, 1.0F}).reshape({1, 2});
    sums.addLinear(same, std::array{at::tensor({1.0F}).reshape({1, 1})});
    sums.finish();
    FeatureSystem system(2, 1, kProcessors);
    system.add(sums, {}, 1);
    EXPECT_FALSE(system.solveWeights(1e-300, std::array{numbers({0, 0}, {1, 2})}).has_value());
}

TEST(NormSystem, WeighsTheTeachersByTheEnergyOfAChannel) {
    FeatureSums first = FeatureSums::ofNorm(2, kProcessors), second = FeatureSums::ofNorm(2, kProcessors);
    first.addNorm(at::tensor({1.0F, 1.0F}).reshape({1, 2}), 0);               // energies 1, 1
    second.addNorm(at::tensor({0.0F, 3.0F, 0.0F, 5.0F}).reshape({2, 2}), 0);  // energies 0, 2
    first.finish();
    second.finish();
    NormSystem system(2);
    system.add(first, numbers({2, 4}, {2}), 1);
    system.add(second, numbers({8, 7}, {2}), 3);
    // (1 * 2 + 0.5 * 6) / 1.5; (1 * 4 + 3 * 2 * 7 + 0.5 * 6) / (1 + 6 + 0.5)
    EXPECT_TRUE(at::allclose(system.solve(0.5, numbers({6, 6}, {2})), numbers({5 / 1.5, 49 / 7.5}, {2}), 1e-6, 0));
}

class LayerStatesTest : public testing::TestWithParam<LayerStates::Where> {};

TEST_P(LayerStatesTest, GivesBackWhatWasPut) {
    LayerStates states(2, 4096, GetParam());
    at::manual_seed(1);
    const at::Tensor hidden = at::randn({2, 3, 4}), query = at::randn({2, 3, 8}), key = at::randn({2, 3, 4});
    states.put(0, {0, hidden.clone(), {}, {}, {}, {}, {}});
    states.put(0, states.take(0, kProcessors));
    states.put(1, {2, hidden + 1, hidden + 2, hidden + 3, query.clone(), key.clone(), key + 1});

    LayerState first = states.take(0, kProcessors);
    EXPECT_TRUE(first.hidden.equal(hidden));
    EXPECT_FALSE(first.input.defined());
    EXPECT_FALSE(first.query.defined());
    const LayerState second = states.take(1, kProcessors);
    EXPECT_EQ(second.number, 2);
    EXPECT_TRUE(second.hidden.equal(hidden + 1));
    EXPECT_TRUE(second.input.equal(hidden + 2));
    EXPECT_TRUE(second.kept.equal(hidden + 3));
    EXPECT_TRUE(second.query.equal(query));
    EXPECT_TRUE(second.key.equal(key));
    EXPECT_TRUE(second.value.equal(key + 1));
}

INSTANTIATE_TEST_SUITE_P(Places, LayerStatesTest,
                         testing::Values(LayerStates::Where::Device, LayerStates::Where::HostMemory,
                                         LayerStates::Where::Disk));

class NoWeights : public WeightSource {
public:
    const std::string& name() const override { return name_; }
    const ModelConfig& modelConfig() const override { return config_; }
    const TensorInfo* find(std::string_view) const override { return nullptr; }
    void read(const TensorInfo&, std::uint64_t, std::span<std::byte>) const override {}

private:
    std::string name_;
    ModelConfig config_;
};

std::vector<std::pair<std::int64_t, std::int64_t>> stepsOfParts(std::int64_t blocks, std::int64_t length,
                                                                std::int64_t microBatch) {
    const NoWeights model;
    const TokenBlocks texts{.blocks = blocks, .length = length, .ids = {}};
    const std::vector<FeatcalTeacher> teachers{{model, texts, microBatch, 1}};
    std::vector<std::pair<std::int64_t, std::int64_t>> steps;
    for (const TextPart& part : textParts(teachers, false)) steps.emplace_back(part.firstStep, part.endStep);
    return steps;
}

TEST(TextParts, AreAPowerOfTwoOfAtLeastAThousandTokens) {
    EXPECT_THAT(stepsOfParts(1, 150, 1), ElementsAre(Pair(0, 1)));
    EXPECT_THAT(stepsOfParts(7, 256, 1), ElementsAre(Pair(0, 7)));
    EXPECT_THAT(stepsOfParts(13, 256, 1), ElementsAre(Pair(0, 6), Pair(6, 13)));
    EXPECT_THAT(stepsOfParts(7, 2048, 2), ElementsAre(Pair(0, 1), Pair(1, 2), Pair(2, 3), Pair(3, 4)));
    EXPECT_EQ(stepsOfParts(256, 2048, 1).size(), 8U);
}

}  // namespace
}  // namespace aimerge
