#include "aimerge/architecture/parameter_name.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace aimerge {
namespace {

TEST(ParameterName, SaysWhereAParameterBelongs) {
    const struct {
        std::string name;
        Part part;
        std::int64_t layer;
    } rows[] = {
        {"model.embed_tokens.weight", Part::Embedding, -1},
        {"model.layers.0.input_layernorm.weight", Part::Layer, 0},
        {"model.layers.12.mlp.up_proj.weight", Part::Layer, 12},
        {"model.norm.weight", Part::FinalNorm, -1},
        {"lm_head.weight", Part::Head, -1},
        {"model.layers.weight", Part::Other, -1},
        {"model.layers.x.weight", Part::Other, -1},
        {"model.layers..weight", Part::Other, -1},
        {"model.layers.-1.weight", Part::Other, -1},
        {"model.layers.01.weight", Part::Other, -1},
        {"model.layers.99999999999999999999.weight", Part::Other, -1},
        {"model.layers.3", Part::Other, -1},
        {"vision.model.layers.3.weight", Part::Other, -1},
        {"model.norms.weight", Part::Other, -1},
        {"", Part::Other, -1},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(placeOf(row.name).part, row.part) << row.name;
        EXPECT_EQ(placeOf(row.name).layer, row.layer) << row.name;
    }
}

TEST(ParameterName, OrdersLayersByNumber) {
    const std::vector<std::string> expected = {"model.embed_tokens.weight",
                                               "model.layers.2.a.weight",
                                               "model.layers.2.b.weight",
                                               "model.layers.10.a.weight",
                                               "model.norm.weight",
                                               "lm_head.weight",
                                               "a.weight",
                                               "z.weight"};
    std::vector<std::string> names = expected;
    std::sort(names.begin(), names.end());

    std::sort(names.begin(), names.end(), modelOrderLess);

    EXPECT_EQ(names, expected);
}

TEST(ParameterName, KnowsModulesAndVocabularyTensors) {
    EXPECT_EQ(moduleOfWeight("model.layers.0.mlp.up_proj.weight"), "model.layers.0.mlp.up_proj");
    EXPECT_EQ(moduleOfWeight("model.layers.0.self_attn.q_proj.bias"), "");
    EXPECT_TRUE(isVocabularyTensor("model.embed_tokens.weight"));
    EXPECT_TRUE(isVocabularyTensor("lm_head.weight"));
    EXPECT_FALSE(isVocabularyTensor("lm_head.bias"));
    EXPECT_FALSE(isVocabularyTensor("model.norm.weight"));
}

}  // namespace
}  // namespace aimerge
