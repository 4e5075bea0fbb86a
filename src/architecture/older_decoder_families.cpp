#include "architecture/decoder_families.h"

// Decoders with layer norms, biases, an MLP without gate or learnt positions.

namespace aimerge {
namespace {

void adjustStableLm(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& /*decoder*/) {
    config.requireFalse("qk_layernorm");
    config.requireFalse("use_parallel_residual");
}

void adjustPhi(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& /*decoder*/) {
    config.requireFalse("qk_layernorm");
}

void adjustNeoX(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& decoder) {
    config.requireTrue("use_parallel_residual");
    if (config.find("rope_parameters")) return;
    decoder.rotations.front().theta = config.positive("rotary_emb_base", 10000);
    decoder.rotations.front().scaling.rotatedShare = config.positive("rotary_pct", 0.25);
}

void adjustGpt2(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    config.requireTrue("scale_attn_weights");
    config.requireFalse("scale_attn_by_inverse_layer_idx");
    decoder.positions = PositionTable{"transformer.wpe.weight", sizes.maxPositions};
}

void adjustOpt(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    config.requireTrue("do_layer_norm_before");
    config.requireFalse("_remove_final_layer_norm");
    if (config.count("word_embed_proj_dim", sizes.hiddenSize) != sizes.hiddenSize)
        config.cannotRun("word_embed_proj_dim", config.count("word_embed_proj_dim", 0), "that of hidden_size only");
    constexpr std::int64_t kRowsBefore = 2;
    decoder.positions = PositionTable{"model.decoder.embed_positions.weight", sizes.maxPositions + kRowsBefore, kRowsBefore};
}

constexpr LayerNames kFalconNames{.beforeMlp = nullptr,
                                  .output = "self_attention.dense",
                                  .attention = "self_attention.query_key_value",
                                  .gate = nullptr,
                                  .up = "mlp.dense_h_to_4h",
                                  .down = "mlp.dense_4h_to_h"};

/// With one head of keys and values for all queries: Falcon 7B.
constexpr DecoderFamily kFalcon7B{.modelType = "falcon",
                                  .maxPositions = 2048,
                                  .eps = 1e-5,
                                  .epsKey = "layer_norm_epsilon",
                                  .activationKey = "activation",
                                  .activation = "gelu",
                                  .sizes = {.inner = "ffn_hidden_size", .innerFactor = 4, .keyValueHeadsAre = 1},
                                  .names = kFalconNames,
                                  .layers = "transformer.h.",
                                  .embedding = "transformer.word_embeddings.weight",
                                  .finalNorm = "transformer.ln_f",
                                  .norm = NormKind::Layer,
                                  .fusion = Fusion::Concatenated,
                                  .isParallel = true};

/// Falcon 2.
constexpr DecoderFamily kFalconNew = [] {
    DecoderFamily family = kFalcon7B;
    family.sizes.keyValueHeads = "num_kv_heads";
    family.sizes.keyValueHeadsAre = 0;
    family.fusion = Fusion::ByKeyHead;
    return family;
}();

/// Falcon 40B.
constexpr DecoderFamily kFalconTwoNorms = [] {
    DecoderFamily family = kFalconNew;
    family.names.beforeAttention = "ln_attn";
    family.names.beforeMlp = "ln_mlp";
    return family;
}();

const DecoderFamily& falconOf(const KeyReader& config) {
    config.requireFalse("alibi");
    config.requireTrue("parallel_attn");
    if (config.flag("new_decoder_architecture", false))
        return config.count("num_ln_in_parallel_attn", 2) == 1 ? kFalconNew : kFalconTwoNorms;
    config.requireTrue("multi_query");
    return kFalcon7B;
}

}  // namespace

const DecoderFamily kStarcoder2{.modelType = "starcoder2",
                                .maxPositions = 4096,
                                .eps = 1e-5,
                                .epsKey = "norm_epsilon",
                                .activation = "gelu_pytorch_tanh",
                                .windows = WindowRule{},
                                .names = {.gate = nullptr, .up = "mlp.c_fc", .down = "mlp.c_proj"},
                                .norm = NormKind::Layer};
const DecoderFamily kStableLm{.modelType = "stablelm",
                              .maxPositions = 4096,
                              .eps = 1e-5,
                              .epsKey = "layer_norm_eps",
                              .norm = NormKind::Layer,
                              .rotatesPart = true,
                              .rotatedShare = 0.25,
                              .adjust = adjustStableLm};
const DecoderFamily kPhi{
    .modelType = "phi",
    .maxPositions = 2048,
    .eps = 1e-5,
    .epsKey = "layer_norm_eps",
    .activation = "gelu_new",
    .names = {.beforeMlp = nullptr, .output = "self_attn.dense", .gate = nullptr, .up = "mlp.fc1", .down = "mlp.fc2"},
    .finalNorm = "model.final_layernorm",
    .norm = NormKind::Layer,
    .isParallel = true,
    .rotatesPart = true,
    .rotatedShare = 0.5,
    .adjust = adjustPhi};
const DecoderFamily kNeoX{.modelType = "gpt_neox",
                          .maxPositions = 2048,
                          .eps = 1e-5,
                          .epsKey = "layer_norm_eps",
                          .activation = "gelu",
                          .names = {.output = "attention.dense",
                                    .attention = "attention.query_key_value",
                                    .gate = nullptr,
                                    .up = "mlp.dense_h_to_4h",
                                    .down = "mlp.dense_4h_to_h"},
                          .layers = "gpt_neox.layers.",
                          .embedding = "gpt_neox.embed_in.weight",
                          .finalNorm = "gpt_neox.final_layer_norm",
                          .head = "embed_out",
                          .norm = NormKind::Layer,
                          .fusion = Fusion::ByKeyHead,
                          .isParallel = true,
                          .rotatesPart = true,
                          .rotatedShare = 0.25,
                          .adjust = adjustNeoX};
const DecoderFamily kGpt2{.modelType = "gpt2",
                          .maxPositions = 1024,
                          .eps = 1e-5,
                          .epsKey = "layer_norm_epsilon",
                          .activationKey = "activation_function",
                          .activation = "gelu_new",
                          .sizes = {.hidden = "n_embd",
                                    .inner = "n_inner",
                                    .layers = "n_layer",
                                    .heads = "n_head",
                                    .positions = "n_positions",
                                    .innerFactor = 4},
                          .names = {.beforeAttention = "ln_1",
                                    .beforeMlp = "ln_2",
                                    .output = "attn.c_proj",
                                    .attention = "attn.c_attn",
                                    .gate = nullptr,
                                    .up = "mlp.c_fc",
                                    .down = "mlp.c_proj"},
                          .layers = "transformer.h.",
                          .embedding = "transformer.wte.weight",
                          .finalNorm = "transformer.ln_f",
                          .norm = NormKind::Layer,
                          .fusion = Fusion::Concatenated,
                          .isInputMajor = true,
                          .rotates = false,
                          .adjust = adjustGpt2};
const DecoderFamily kOpt{.modelType = "opt",
                         .maxPositions = 2048,
                         .eps = 1e-5,
                         .epsKey = "",
                         .activationKey = "activation_function",
                         .activation = "relu",
                         .sizes = {.inner = "ffn_dim"},
                         .names = {.beforeAttention = "self_attn_layer_norm",
                                   .beforeMlp = "final_layer_norm",
                                   .output = "self_attn.out_proj",
                                   .gate = nullptr,
                                   .up = "fc1",
                                   .down = "fc2"},
                         .layers = "model.decoder.layers.",
                         .embedding = "model.decoder.embed_tokens.weight",
                         .finalNorm = "model.decoder.final_layer_norm",
                         .norm = NormKind::Layer,
                         .rotates = false,
                         .adjust = adjustOpt};
const DecoderFamily kFalcon{.modelType = "falcon", .variantOf = falconOf};

}  // namespace aimerge
