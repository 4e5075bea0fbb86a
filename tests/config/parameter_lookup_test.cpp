#include "aimerge/config/parameter_lookup.h"

#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

const MergeConfig& config() {
    static const MergeConfig config = parsed(R"(merge_method: ties
base_model: base
models:
  - model: a
    parameters:
      weight: [{filter: mlp, value: [0, 1]}]
      lambda: 7
      normalize: false
  - model: b
    parameters: {weight: [], density: x}
parameters:
  weight: [{filter: self_attn, value: 2}, {value: 3}]
  lambda: {filter: mlp, value: 4}
  normalize: [true, false]
)");
    return config;
}

const TensorPlace kMlp{.name = "model.layers.1.mlp.up_proj.weight", .depth = 0.5};
const TensorPlace kAttention{.name = "model.layers.1.self_attn.q_proj.weight", .depth = 0.5};

TEST(ParameterLookup, AModelsOwnParametersComeFirst) {
    EXPECT_EQ(lookUpNumber(config(), "weight", 0, kMlp), 0.5);
}

TEST(ParameterLookup, WithoutAMatchingFilterTheGlobalParametersAreAsked) {
    EXPECT_EQ(lookUpNumber(config(), "weight", 0, kAttention), 2);
}

TEST(ParameterLookup, AnEmptyListCountsAsAbsent) {
    EXPECT_EQ(lookUpNumber(config(), "weight", 1, kMlp), 3);
}

TEST(ParameterLookup, SharedParametersIgnoreThoseOfAModel) {
    EXPECT_EQ(lookUpNumber(config(), "lambda", std::nullopt, kMlp), 4);
    EXPECT_EQ(lookUpBoolean(config(), "normalize", std::nullopt, kMlp), true);
    EXPECT_EQ(lookUpBoolean(config(), "normalize", 0, kMlp), false);
}

TEST(ParameterLookup, IsNothingWhereNoPlaceHasAValue) {
    EXPECT_EQ(lookUpNumber(config(), "lambda", std::nullopt, kAttention), std::nullopt);
    EXPECT_EQ(lookUpNumber(config(), "epsilon", 0, kAttention), std::nullopt);
    EXPECT_EQ(findParameter(config(), "epsilon", 0, kAttention), nullptr);
}

TEST(ParameterLookup, NamesThePlaceOfABadValue) {
    EXPECT_EQ(findParameter(config(), "density", 1, kMlp)->mark.text(), "merge.yaml:10:39");
    EXPECT_THAT([] { lookUpNumber(config(), "density", 1, kMlp); },
                testing::ThrowsMessage<UsageError>(
                    "merge.yaml:10:39: models[1].parameters.density must be a finite number, found 'x'"));
}

TEST(DepthOfLayer, IsTheFractionOfTheWayThroughTheLayers) {
    EXPECT_EQ(depthOfLayer(0, 4), 0);
    EXPECT_EQ(depthOfLayer(1, 4), 1.0 / 3);
    EXPECT_EQ(depthOfLayer(3, 4), 1);
}

TEST(DepthOfLayer, OfTheOnlyLayerIsOneAndOutsideTheLayersZero) {
    EXPECT_EQ(depthOfLayer(0, 1), 1);
    EXPECT_EQ(depthOfLayer(std::nullopt, 4), 0);
    EXPECT_EQ(depthOfLayer(std::nullopt, 1), 0);
}

}  // namespace
}  // namespace aimerge
