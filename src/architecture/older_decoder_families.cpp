#include "architecture/decoder_families.h"

// Decoders with layer norms, biases, an MLP without gate or learnt positions.

namespace aimerge {
namespace {

/// Layer norms of queries and keys, over a head.
void normaliseHeads(DecoderDescription& decoder, const ModelConfig& sizes, const char* queryNorm, const char* keyNorm,
                    bool eachHead) {
    for (LayerDescription& layer : decoder.layers)
        for (BlockDescription& block : layer.blocks)
            if (auto* attention = std::get_if<AttentionDescription>(&block)) {
                attention->queryNorm = NormDescription{queryNorm, sizes.headDim, NormKind::Layer, sizes.rmsNormEps};
                attention->keyNorm = NormDescription{keyNorm, sizes.headDim, NormKind::Layer, sizes.rmsNormEps};
                attention->normalisesEachHead = eachHead;
            }
}

void adjustStableLm(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    if (config.flag("qk_layernorm", false))
        normaliseHeads(decoder, sizes, "self_attn.q_layernorm.norms", "self_attn.k_layernorm.norms", true);
}

void adjustPhi(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    if (config.flag("qk_layernorm", false))
        normaliseHeads(decoder, sizes, "self_attn.q_layernorm", "self_attn.k_layernorm", false);
}

void adjustPersimmon(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    if (config.flag("qk_layernorm", true))
        normaliseHeads(decoder, sizes, "self_attn.q_layernorm", "self_attn.k_layernorm", false);
}

void adjustNeoX(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& decoder) {
    if (config.find("rope_parameters")) return;
    decoder.rotations.front().theta = config.positive("rotary_emb_base", 10000);
    decoder.rotations.front().scaling.rotatedShare = config.positive("rotary_pct", 0.25);
}

void adjustGpt2(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    config.requireTrue("scale_attn_weights");
    config.requireFalse("scale_attn_by_inverse_layer_idx");
    decoder.positions = PositionTable{"transformer.wpe.weight", sizes.maxPositions};
}

void adjustGptJ(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    if (config.has("rotary_dim") && config.find("rotary_dim") == nullptr)
        config.cannotRun("rotary_dim", nullptr, "numbers only");
    const std::int64_t rotated = config.count("rotary_dim", 64);
    if (rotated > sizes.headDim) config.cannotRun("rotary_dim", rotated, "at most as many as a head has channels");
    decoder.rotations.front().scaling.rotatedShare = static_cast<double>(rotated) / static_cast<double>(sizes.headDim);
}

void adjustGptBigCode(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    config.requireTrue("multi_query");
    config.requireTrue("scale_attn_weights");
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

constexpr SizeKeys kGpt2Sizes{.hidden = "n_embd",
                              .inner = "n_inner",
                              .layers = "n_layer",
                              .heads = "n_head",
                              .positions = "n_positions",
                              .innerFactor = 4};

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

constexpr DecoderFamily kStableLmInTurn{.modelType = "stablelm",
                                        .maxPositions = 4096,
                                        .eps = 1e-5,
                                        .epsKey = "layer_norm_eps",
                                        .norm = NormKind::Layer,
                                        .rotatesPart = true,
                                        .rotatedShare = 0.25,
                                        .adjust = adjustStableLm};

/// StableLM 2 12B.
constexpr DecoderFamily kStableLmParallel = [] {
    DecoderFamily family = kStableLmInTurn;
    family.names.beforeMlp = nullptr;
    family.isParallel = true;
    return family;
}();

const DecoderFamily& stableLmOf(const KeyReader& config) {
    return config.flag("use_parallel_residual", false) ? kStableLmParallel : kStableLmInTurn;
}

constexpr DecoderFamily kNeoXParallel{.modelType = "gpt_neox",
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

constexpr DecoderFamily kNeoXInTurn = [] {
    DecoderFamily family = kNeoXParallel;
    family.isParallel = false;
    return family;
}();

const DecoderFamily& neoXOf(const KeyReader& config) {
    return config.flag("use_parallel_residual", true) ? kNeoXParallel : kNeoXInTurn;
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
const DecoderFamily kStableLm{.modelType = "stablelm", .variantOf = stableLmOf};
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
const DecoderFamily kNeoX{.modelType = "gpt_neox", .variantOf = neoXOf};
constexpr DecoderFamily kGpt2{.modelType = "gpt2",
                              .maxPositions = 1024,
                              .eps = 1e-5,
                              .epsKey = "layer_norm_epsilon",
                              .activationKey = "activation_function",
                              .activation = "gelu_new",
                              .sizes = kGpt2Sizes,
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
const DecoderFamily kNemotron{.modelType = "nemotron",
                              .maxPositions = 4096,
                              .eps = 1e-5,
                              .epsKey = "norm_eps",
                              .activation = "relu2",
                              .names = {.gate = nullptr},
                              .norm = NormKind::LayerShifted,
                              .rotatesPart = true,
                              .rotatedShare = 0.5};
const DecoderFamily kPersimmon{.modelType = "persimmon",
                               .maxPositions = 16384,
                               .eps = 1e-5,
                               .epsKey = "layer_norm_eps",
                               .activation = "relu2",
                               .names = {.output = "self_attn.dense",
                                         .attention = "self_attn.query_key_value",
                                         .gate = nullptr,
                                         .up = "mlp.dense_h_to_4h",
                                         .down = "mlp.dense_4h_to_h"},
                               .finalNorm = "model.final_layernorm",
                               .norm = NormKind::Layer,
                               .fusion = Fusion::ByKeyHead,
                               .rotatesPart = true,
                               .rotatedShare = 0.5,
                               .adjust = adjustPersimmon};
const DecoderFamily kGptJ{.modelType = "gptj",
                          .maxPositions = 2048,
                          .eps = 1e-5,
                          .epsKey = "layer_norm_epsilon",
                          .activationKey = "activation_function",
                          .activation = "gelu_new",
                          .sizes = kGpt2Sizes,
                          .names = {.beforeAttention = "ln_1",
                                    .beforeMlp = nullptr,
                                    .query = "attn.q_proj",
                                    .key = "attn.k_proj",
                                    .value = "attn.v_proj",
                                    .output = "attn.out_proj",
                                    .gate = nullptr,
                                    .up = "mlp.fc_in",
                                    .down = "mlp.fc_out"},
                          .layers = "transformer.h.",
                          .embedding = "transformer.wte.weight",
                          .finalNorm = "transformer.ln_f",
                          .norm = NormKind::Layer,
                          .isParallel = true,
                          .rotatesInterleaved = true,
                          .adjust = adjustGptJ};
/// StarCoder 1.
constexpr DecoderFamily kGptBigCode = [] {
    DecoderFamily family = kGpt2;
    family.modelType = "gpt_bigcode";
    family.activation = "gelu_pytorch_tanh";
    family.sizes.keyValueHeadsAre = 1;
    family.isInputMajor = false;
    family.adjust = adjustGptBigCode;
    return family;
}();

}  // namespace aimerge
