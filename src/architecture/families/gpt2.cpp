#include "architecture/families/families.h"

namespace aimerge {
namespace {

/// Conv1D of transformers, which stores [in, out].
constexpr LinearModule kConv1dAttention[] = {{"attn.c_attn", Activation::AttentionInput, -2},
                                             {"attn.c_proj", Activation::AttentionOutput, -2}};
constexpr LinearModule kConv1dMlp[] = {{"mlp.c_fc", Activation::MlpInput, -2}, {"mlp.c_proj", Activation::MlpInner, -2}};

constexpr LinearModule kLinearAttention[] = {{"attn.c_attn", Activation::AttentionInput},
                                             {"attn.c_proj", Activation::AttentionOutput}};
constexpr LinearModule kLinearMlp[] = {{"mlp.c_fc", Activation::MlpInput}, {"mlp.c_proj", Activation::MlpInner}};

}  // namespace

const Family kGpt2Family{.modelTypes = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"},
                         .attention = kConv1dAttention,
                         .mlp = kConv1dMlp,
                         .norms = {"ln_1", "ln_2"},
                         .positions = Positions::Learnt};

/// The layout of GPT-2 with ordinary linear layers.
const Family kGptBigCodeFamily{.modelTypes = {"gpt_bigcode"},
                               .attention = kLinearAttention,
                               .mlp = kLinearMlp,
                               .norms = {"ln_1", "ln_2"},
                               .positions = Positions::Learnt};

}  // namespace aimerge
