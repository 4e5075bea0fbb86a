// What is merged: models, slices and modules, and in which order a slice's parameters are asked.

#include "aimerge/config/parameter_lookup.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

const std::string kStack =
    "merge_method: passthrough\n"
    "parameters: {scale: 1}\n"
    "modules:\n"
    "  default:\n"
    "    parameters: {scale: {filter: mlp, value: 2}}\n"
    "    slices:\n"
    "      - sources:\n"
    "          - model: a\n"
    "            layer_range: [0, 2]\n"
    "            parameters: {scale: {filter: q_proj, value: 4}}\n"
    "        parameters: {scale: {filter: down_proj, value: 3}}\n"
    "      - sources:\n"
    "          - model: a\n"
    "            layer_range: [1, 3]\n"
    "          - model: {model: {path: org/b, revision: v2}}\n"
    "        base_model: {model: c}\n";

TEST(Modules, KeepTheirNamesAndParameters) {
    const MergeConfig config = parsed(
        "merge_method: linear\nbase_model: b\n"
        "modules:\n  text_decoder: {models: [{model: t}], parameters: {weight: 2}}\n"
        "  vision_tower: {slices: [{sources: [{model: v, layer_range: [0, 1]}]}]}\n");
    ASSERT_EQ(config.slices.size(), 2u);
    EXPECT_EQ(config.slices[0].module, "text_decoder");
    EXPECT_TRUE(config.slices[0].wholeModels);
    EXPECT_EQ(config.slices[1].module, "vision_tower");
    EXPECT_FALSE(config.slices[1].wholeModels);
    EXPECT_TRUE(config.moduleParameters.at("text_decoder").contains("weight"));
}

TEST(Slices, KeepTheirSourcesRangesAndBases) {
    const MergeConfig config = parsed(kStack);

    ASSERT_EQ(config.slices.size(), 2u);
    EXPECT_FALSE(config.slices[0].wholeModels);
    EXPECT_EQ(config.slices[0].mark.text(), "merge.yaml:7:9");
    const LayerRange& range = config.slices[1].sources[0].layers.value();
    EXPECT_EQ(range.from, 1);
    EXPECT_EQ(range.to, 3);
    EXPECT_EQ(range.mark.text(), "merge.yaml:14:26");
    EXPECT_EQ(config.slices[1].sources[1].model, "org/b@v2");
    EXPECT_FALSE(config.slices[1].sources[1].layers);
    EXPECT_EQ(config.slices[1].baseModel, "c");
}

TEST(Slices, AreAskedForParametersFromTheSourceToTheWholeFile) {
    const MergeConfig config = parsed(kStack);
    const auto scale = [&](const char* name, std::size_t slice) {
        return lookUpNumber(config, "scale", 0, {.name = name, .depth = 0, .slice = slice});
    };

    EXPECT_EQ(scale("self_attn.q_proj", 0), 4);
    EXPECT_EQ(scale("mlp.down_proj", 0), 3);
    EXPECT_EQ(scale("mlp.up_proj", 0), 2);
    EXPECT_EQ(scale("input_layernorm", 0), 1);
    EXPECT_EQ(scale("self_attn.q_proj", 1), 1);
    EXPECT_EQ(scale("mlp.down_proj", 1), 2);
}

TEST(Slices, OfWholeModelsAreOne) {
    const MergeConfig config = parsed("merge_method: linear\nmodels: [{model: a}, {model: b}]\nbase_model: c\n");

    ASSERT_EQ(config.slices.size(), 1u);
    EXPECT_TRUE(config.slices[0].wholeModels);
    EXPECT_EQ(config.baseOf(config.slices[0]), "c");
}

TEST(Slices, HaveTheFilesBaseWhereItIsASource) {
    const MergeConfig config = parsed(
        "merge_method: linear\nbase_model: c\nslices:\n- sources: [{model: a}, {model: c}]\n- sources: [{model: a}]\n"
        "- {sources: [{model: a}], base_model: d}\n");

    EXPECT_EQ(config.baseOf(config.slices[0]), "c");
    EXPECT_EQ(config.baseOf(config.slices[1]), "");
    EXPECT_EQ(config.baseOf(config.slices[2]), "d");
}

TEST(Slices, AcceptALayerRangeOfNull) {
    EXPECT_FALSE(
        parsed("merge_method: linear\nslices: [{sources: [{model: a, layer_range: null}]}]\n").slices[0].sources[0].layers);
}

}  // namespace
}  // namespace aimerge
