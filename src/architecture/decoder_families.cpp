#include "architecture/decoder_families.h"

#include "aimerge/architecture/decoder_family.h"

#include <fmt/ranges.h>
#include <algorithm>
#include <array>
#include <cmath>

namespace aimerge {
namespace {

using Json = KeyReader::Json;

// ---- what names and flags do not say

template <typename Work>
void overAttention(DecoderDescription& decoder, const Work& work) {
    for (std::size_t layer = 0; layer < decoder.layers.size(); ++layer)
        for (BlockDescription& block : decoder.layers[layer].blocks)
            if (auto* attention = std::get_if<AttentionDescription>(&block)) work(layer, *attention);
}

/// Gemma: embeddings times the root of their width, rounded.
void scaleEmbeddings(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    config.requireFalse("use_bidirectional_attention");
    decoder.embeddingScale = std::sqrt(static_cast<double>(sizes.hiddenSize));
    decoder.roundsEmbeddingScale = true;
}

/// Layers that see a window, and those that see all, each with their own rope_parameters.
void rotateByKind(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder, const char* localThetaKey,
                  double globalTheta, double localTheta) {
    Rotation full = decoder.rotations.front(), sliding = full;
    sliding.scaling = {};
    sliding.theta = config.positive(localThetaKey, localTheta);
    const Json* parameters = config.find("rope_parameters");
    const bool isByKind = parameters && parameters->is_object() &&
                          (parameters->contains("full_attention") || parameters->contains("sliding_attention"));
    if (isByKind) {
        const KeyReader both = config.section("rope_parameters");
        full.theta = globalTheta;
        full.scaling = {};
        for (const auto& [kind, rotation] : {std::pair{"full_attention", &full}, std::pair{"sliding_attention", &sliding}}) {
            if (both.find(kind) == nullptr) continue;
            const KeyReader section = both.section(kind);
            rotation->theta = section.positive("rope_theta", rotation->theta);
            readScaling(section, rotation->scaling);
        }
    }
    for (Rotation* rotation : {&full, &sliding})
        if (rotation->scaling.originalPositions == 0) rotation->scaling.originalPositions = sizes.maxPositions;
    decoder.rotations = {full, sliding};
    overAttention(decoder, [&](std::size_t layer, AttentionDescription& attention) {
        attention.rotation = !sizes.windows.empty() && sizes.windows[layer] > 0 ? 1 : 0;
    });
}

void adjustGemma3(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    scaleEmbeddings(config, sizes, decoder);
    const double scalar = config.positive("query_pre_attn_scalar", 256);
    // transformers reads attn_logit_softcapping, and does not apply it.
    decoder.logitSoftcap = config.positive("final_logit_softcapping", 0);
    overAttention(decoder, [&](std::size_t, AttentionDescription& attention) { attention.scale = 1 / std::sqrt(scalar); });
    rotateByKind(config, sizes, decoder, "rope_local_base_freq", 1e6, 1e4);
}

/// Sections of a head's channels are rotated by the places of images and frames; those of text are alike in all of them.
void rotateAsText(const KeyReader& /*config*/, const ModelConfig& /*sizes*/, DecoderDescription& decoder) {
    for (Rotation& rotation : decoder.rotations)
        if (rotation.scaling.type == "mrope") rotation.scaling.type = "default";
}

/// For model types whose default, where it is missing, is more than a theta.
const Json* requiredScaling(const KeyReader& config, const char* modelType) {
    const Json* parameters = config.find("rope_parameters");
    if (parameters == nullptr) parameters = config.find("rope_scaling");
    if (parameters == nullptr)
        throw InputError("{}: rope_parameters is missing; the decoder runs {} with that of config.json only",
                         config.fileName(), modelType);
    return parameters;
}

void adjustApertus(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& /*decoder*/) {
    requiredScaling(config, "apertus");
}

/// Queries behind original_max_position_embeddings are scaled (llama_4_scaling_beta): such sequences are not run.
void adjustMinistral3(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    const Json* parameters = requiredScaling(config, "ministral3");
    if (parameters->is_object() && parameters->contains("llama_4_scaling_beta"))
        decoder.mostPositions = std::max<std::int64_t>(1, sizes.rope.originalPositions);
}

void adjustOlmo3(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    rotateByKind(config, sizes, decoder, "rope_theta", 5e5, 5e5);
}

void rotateOnlyWindows(DecoderDescription& decoder) {
    overAttention(decoder, [](std::size_t, AttentionDescription& attention) {
        if (attention.window == 0) attention.rotation.reset();
    });
}

/// Where some layers see a window, those that see all do not rotate.
void adjustExaone4(const KeyReader& /*config*/, const ModelConfig& sizes, DecoderDescription& decoder) {
    if (!sizes.windows.empty()) rotateOnlyWindows(decoder);
}

void adjustSmolLm3(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    std::vector<bool> rotates = config.flags("no_rope_layers", sizes.layers);
    const std::int64_t interval = config.count("no_rope_layer_interval", 4);
    if (rotates.empty())
        for (std::int64_t layer = 0; layer < sizes.layers; ++layer) rotates.push_back((layer + 1) % interval != 0);
    if (!sizes.windows.empty() && config.find("layer_types") == nullptr)
        config.cannotRun("use_sliding_window", true, "it with layer_types only");
    overAttention(decoder, [&](std::size_t layer, AttentionDescription& attention) {
        if (!rotates[layer]) attention.rotation.reset();
    });
}

/// With an `alpha`, "dynamic" stretches the base once for all lengths.
void adjustHunyuan(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    Rotation& rotation = decoder.rotations.front();
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const Json* values = config.find(key);
        if (values == nullptr || values->empty()) continue;
        const double alpha = config.section(key).positive("alpha", 0);
        if (alpha > 0 && rotation.scaling.type == "dynamic") {
            const auto dim = static_cast<double>(sizes.headDim);
            rotation.theta *= std::pow(alpha, dim / (dim - 2));
            rotation.scaling.type = "default";
        }
        return;
    }
}

void adjustGranite(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& decoder) {
    decoder.embeddingScale = config.positive("embedding_multiplier", 1);
    decoder.logitScale = 1 / config.positive("logits_scaling", 1);
    const double scale = config.positive("attention_multiplier", 1), factor = config.positive("residual_multiplier", 1);
    for (LayerDescription& layer : decoder.layers)
        for (BlockDescription& block : layer.blocks) {
            if (auto* attention = std::get_if<AttentionDescription>(&block)) attention->scale = scale;
            if (auto* add = std::get_if<AddDescription>(&block)) add->factor = factor;
        }
}

void adjustCohere(const KeyReader& config, const ModelConfig& /*sizes*/, DecoderDescription& decoder) {
    config.requireFalse("use_qk_norm");
    decoder.logitScale = config.positive("logit_scale", 0.0625);
}

void adjustCohere2(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) {
    adjustCohere(config, sizes, decoder);
    rotateOnlyWindows(decoder);
}

// ---- names

constexpr LayerNames kHeadNorms{.queryNorm = "self_attn.q_norm", .keyNorm = "self_attn.k_norm"};
constexpr LayerNames kFused{.attention = "self_attn.qkv_proj", .mlp = "mlp.gate_up_proj"};
constexpr LayerNames kFourNorms{.behindAttention = "post_attention_layernorm",
                                .beforeMlp = "pre_feedforward_layernorm",
                                .behindMlp = "post_feedforward_layernorm"};
constexpr LayerNames kFourNormsAndHeads{.behindAttention = "post_attention_layernorm",
                                        .beforeMlp = "pre_feedforward_layernorm",
                                        .behindMlp = "post_feedforward_layernorm",
                                        .queryNorm = "self_attn.q_norm",
                                        .keyNorm = "self_attn.k_norm"};
constexpr LayerNames kNormsBehind{.beforeAttention = nullptr,
                                  .behindAttention = "post_attention_layernorm",
                                  .beforeMlp = nullptr,
                                  .behindMlp = "post_feedforward_layernorm",
                                  .queryNorm = "self_attn.q_norm",
                                  .keyNorm = "self_attn.k_norm"};
constexpr LayerNames kOneNorm{.beforeMlp = nullptr};
constexpr WindowRule kWindowsOfQwen{.isAskedFor = true, .isListed = true, .fullFirst = 28};

// ---- the families

constexpr DecoderFamily kLlama{.modelType = "llama", .isFullyRead = true, .maxPositions = 2048};

constexpr DecoderFamily kMistral{
    .modelType = "mistral", .isFullyRead = true, .maxPositions = 131072, .slidingWindow = 4096, .windows = WindowRule{}};

constexpr DecoderFamily kQwen2{
    .modelType = "qwen2", .isFullyRead = true, .maxPositions = 32768, .slidingWindow = 4096, .windows = kWindowsOfQwen};

constexpr DecoderFamily kQwen3{.modelType = "qwen3",
                               .isFullyRead = true,
                               .maxPositions = 32768,
                               .slidingWindow = 4096,
                               .headDim = 128,
                               .windows = kWindowsOfQwen,
                               .names = kHeadNorms};

constexpr DecoderFamily kPhi3{.modelType = "phi3",
                              .isFullyRead = true,
                              .maxPositions = 4096,
                              .eps = 1e-5,
                              .windows = WindowRule{},
                              .names = kFused,
                              .fusion = Fusion::Concatenated,
                              .rotatesPart = true};

constexpr DecoderFamily kGemma2{.modelType = "gemma2",
                                .isFullyRead = true,
                                .maxPositions = 8192,
                                .slidingWindow = 4096,
                                .headDim = 256,
                                .activationKey = "hidden_activation",
                                .activation = "gelu_pytorch_tanh",
                                .windows = WindowRule{.isListed = true, .fullEvery = 2},
                                .names = kFourNorms,
                                .norm = NormKind::RmsShifted,
                                .adjust = scaleEmbeddings};

// Other names for what the six above run, and sections of models with images.

constexpr DecoderFamily kInternLm3{.modelType = "internlm3", .maxPositions = 32768, .headDim = 128, .eps = 1e-5};
constexpr DecoderFamily kSeedOss{.modelType = "seed_oss", .maxPositions = 524288, .headDim = 128};
constexpr DecoderFamily kMinistral{
    .modelType = "ministral", .maxPositions = 131072, .slidingWindow = 4096, .windows = WindowRule{.isListed = true}};
constexpr DecoderFamily kMinistral3{.modelType = "ministral3",
                                    .maxPositions = 262144,
                                    .headDim = 128,
                                    .eps = 1e-5,
                                    .theta = 1e6,
                                    .windows = WindowRule{},
                                    .adjust = adjustMinistral3};
constexpr DecoderFamily kMistral3{.modelType = "mistral3", .text = &kMistral};
constexpr DecoderFamily kGemma{.modelType = "gemma",
                               .maxPositions = 8192,
                               .headDim = 256,
                               .activation = "gelu_pytorch_tanh",
                               .geluMeansTanh = true,
                               .norm = NormKind::RmsShifted,
                               .adjust = scaleEmbeddings};
constexpr DecoderFamily kQwen2VlText{.modelType = "qwen2_vl_text",
                                     .maxPositions = 32768,
                                     .slidingWindow = 4096,
                                     .eps = 1e-5,
                                     .theta = 1e6,
                                     .windows = WindowRule{.isAskedFor = true, .isListed = true, .fullFirst = 80},
                                     .adjust = rotateAsText};
constexpr DecoderFamily kQwen25VlText = [] {
    DecoderFamily family = kQwen2VlText;
    family.modelType = "qwen2_5_vl_text";
    return family;
}();
constexpr DecoderFamily kQwen3VlText{.modelType = "qwen3_vl_text",
                                     .maxPositions = 128000,
                                     .headDim = 128,
                                     .theta = 5e5,
                                     .names = kHeadNorms,
                                     .adjust = rotateAsText};
constexpr DecoderFamily kQwen2Vl{.modelType = "qwen2_vl", .text = &kQwen2VlText};
constexpr DecoderFamily kQwen25Vl{.modelType = "qwen2_5_vl", .text = &kQwen25VlText};
constexpr DecoderFamily kQwen3Vl{.modelType = "qwen3_vl", .text = &kQwen3VlText};

constexpr DecoderFamily kGemma3Text{.modelType = "gemma3_text",
                                    .vocabulary = 262208,
                                    .heads = 8,
                                    .keyValueHeads = 4,
                                    .maxPositions = 131072,
                                    .slidingWindow = 4096,
                                    .headDim = 256,
                                    .theta = 1e6,
                                    .activationKey = "hidden_activation",
                                    .activation = "gelu_pytorch_tanh",
                                    .windows = WindowRule{.isListed = true, .fullEvery = 6},
                                    .names = kFourNormsAndHeads,
                                    .norm = NormKind::RmsShifted,
                                    .adjust = adjustGemma3};
constexpr DecoderFamily kGemma3{.modelType = "gemma3", .text = &kGemma3Text};

// Norms behind, layers without rotation, multipliers, parallel branches.

constexpr DecoderFamily kOlmo2{.modelType = "olmo2",
                               .maxPositions = 2048,
                               .eps = 1e-5,
                               .names = kNormsBehind,
                               .norm = NormKind::RmsRoundedOnce,
                               .normalisesWholeWidth = true};
constexpr DecoderFamily kOlmo3{.modelType = "olmo3",
                               .maxPositions = 2048,
                               .slidingWindow = 4096,
                               .eps = 1e-5,
                               .theta = 5e5,
                               .windows = WindowRule{.isListed = true, .fullEvery = 4},
                               .names = kNormsBehind,
                               .norm = NormKind::RmsRoundedOnce,
                               .normalisesWholeWidth = true,
                               .adjust = adjustOlmo3};
constexpr DecoderFamily kExaone4{.modelType = "exaone4",
                                 .maxPositions = 2048,
                                 .slidingWindow = 4096,
                                 .eps = 1e-5,
                                 .windows = WindowRule{.isListed = true, .fullEvery = 4},
                                 .names = kNormsBehind,
                                 .adjust = adjustExaone4};
constexpr DecoderFamily kSmolLm3{.modelType = "smollm3",
                                 .maxPositions = 32768,
                                 .theta = 2e6,
                                 .windows = WindowRule{.isAskedFor = true, .isListed = true},
                                 .adjust = adjustSmolLm3};
constexpr DecoderFamily kGranite{.modelType = "granite", .maxPositions = 2048, .adjust = adjustGranite};
constexpr DecoderFamily kCohere{.modelType = "cohere",
                                .maxPositions = 8192,
                                .eps = 1e-5,
                                .theta = 5e5,
                                .epsKey = "layer_norm_eps",
                                .names = kOneNorm,
                                .norm = NormKind::Layer,
                                .isParallel = true,
                                .rotatesInterleaved = true,
                                .adjust = adjustCohere};
constexpr DecoderFamily kCohere2{.modelType = "cohere2",
                                 .maxPositions = 8192,
                                 .slidingWindow = 4096,
                                 .eps = 1e-5,
                                 .epsKey = "layer_norm_eps",
                                 .windows = WindowRule{.isListed = true, .fullEvery = 4},
                                 .names = kOneNorm,
                                 .norm = NormKind::Layer,
                                 .isParallel = true,
                                 .rotatesInterleaved = true,
                                 .adjust = adjustCohere2};
constexpr DecoderFamily kHunyuan{.modelType = "hunyuan_v1_dense",
                                 .maxPositions = 2048,
                                 .eps = 1e-5,
                                 .names = {.queryNorm = "self_attn.query_layernorm", .keyNorm = "self_attn.key_layernorm"},
                                 .normalisesRotated = true,
                                 .adjust = adjustHunyuan};

// Rotation of a part, or of neighbours.

constexpr DecoderFamily kGlm{.modelType = "glm",
                             .maxPositions = 131072,
                             .headDim = 128,
                             .eps = 1.5625e-7,
                             .names = {.mlp = "mlp.gate_up_proj"},
                             .rotatesPart = true,
                             .rotatesInterleaved = true,
                             .rotatedShare = 0.5};
constexpr DecoderFamily kGlm4{
    .modelType = "glm4",
    .maxPositions = 131072,
    .headDim = 128,
    .eps = 1.5625e-7,
    .names = {.behindAttention = "post_self_attn_layernorm", .behindMlp = "post_mlp_layernorm", .mlp = "mlp.gate_up_proj"},
    .rotatesPart = true,
    .rotatesInterleaved = true,
    .rotatedShare = 0.5};
constexpr DecoderFamily kErnie{
    .modelType = "ernie4_5", .maxPositions = 131072, .headDim = 128, .eps = 1e-5, .theta = 5e5, .rotatesInterleaved = true};
constexpr DecoderFamily kHelium{.modelType = "helium",
                                .maxPositions = 4096,
                                .headDim = 128,
                                .eps = 1e-8,
                                .theta = 1e5,
                                .norm = NormKind::RmsRoundedOnce,
                                .rotatesInterleaved = true};

// An MLP without gate, between RMS norms.

constexpr DecoderFamily kApertus{.modelType = "apertus",
                                 .maxPositions = 65536,
                                 .eps = 1e-5,
                                 .theta = 1.2e7,
                                 .activation = "xielu",
                                 .names = {.beforeAttention = "attention_layernorm",
                                           .beforeMlp = "feedforward_layernorm",
                                           .queryNorm = "self_attn.q_norm",
                                           .keyNorm = "self_attn.k_norm",
                                           .gate = nullptr,
                                           .activation = "mlp.act_fn"},
                                 .adjust = adjustApertus};
constexpr DecoderFamily kArcee{
    .modelType = "arcee", .maxPositions = 4096, .eps = 1e-5, .activation = "relu2", .names = {.gate = nullptr}};

constexpr std::array kDecoderFamilies{
    &kLlama,      &kMistral,    &kQwen2,  &kQwen3,   &kPhi3,        &kGemma2,   &kInternLm3,    &kSeedOss, &kMinistral,
    &kMinistral3, &kMistral3,   &kGemma,  &kQwen2Vl, &kQwen2VlText, &kQwen25Vl, &kQwen25VlText, &kQwen3Vl, &kQwen3VlText,
    &kGemma3,     &kGemma3Text, &kOlmo2,  &kOlmo3,   &kExaone4,     &kSmolLm3,  &kGranite,      &kCohere,  &kCohere2,
    &kHunyuan,    &kGlm,        &kGlm4,   &kErnie,   &kStarcoder2,  &kStableLm, &kPhi,          &kNeoX,    &kFalcon,
    &kGpt2,       &kOpt,        &kHelium, &kApertus, &kArcee,       &kNemotron, &kPersimmon,    &kGptJ,    &kGptBigCode};

}  // namespace

const DecoderFamily* findDecoderFamily(std::string_view modelType) {
    const auto* const found = std::ranges::find(kDecoderFamilies, modelType, &DecoderFamily::modelType);
    return found == kDecoderFamilies.end() ? nullptr : *found;
}

bool isFullyRead(std::string_view modelType) {
    const DecoderFamily* const family = findDecoderFamily(modelType);
    return family && family->isFullyRead;
}

const DecoderDescription& decoderOf(const ModelConfig& config, const std::string& model) {
    requireRunnable(config, model);
    return *config.decoder;
}

void requireRunnable(const ModelConfig& config, const std::string& model) {
    if (config.decoder) return;
    if (!config.whyNotRun.empty()) throw InputError("{}", config.whyNotRun);
    std::vector<std::string_view> types;
    for (const DecoderFamily* family : kDecoderFamilies) types.push_back(family->modelType);
    throw InputError(
        "{}: config.json: model_type is \"{}\"; the decoder runs {}. Record the activations of such a model with "
        "src/tools/record_statistics.py and give the log as aim.statistics, or merge without an aim section and by a method "
        "that measures no expert",
        model, config.modelType, fmt::join(types, ", "));
}

}  // namespace aimerge
