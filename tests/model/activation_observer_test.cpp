#include "aimerge/model/activation_observer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

TEST(ModulesAt, QueryKeyAndValueShareTheirInput) {
    EXPECT_THAT(modulesAt(ActivationPoint::AttentionInput, 12),
                ElementsAre("model.layers.12.self_attn.q_proj", "model.layers.12.self_attn.k_proj",
                            "model.layers.12.self_attn.v_proj"));
}

TEST(ModulesAt, GateAndUpShareTheirInput) {
    EXPECT_THAT(modulesAt(ActivationPoint::MlpInput, 0),
                ElementsAre("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"));
}

TEST(ModulesAt, FinalNormAndHeadAreOutsideTheLayers) {
    EXPECT_THAT(modulesAt(ActivationPoint::FinalNorm, -1), ElementsAre("model.norm"));
    EXPECT_THAT(modulesAt(ActivationPoint::Head, -1), ElementsAre("lm_head"));
}

}  // namespace
}  // namespace aimerge
