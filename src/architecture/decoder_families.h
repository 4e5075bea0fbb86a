#pragma once
// The families of decoders that src/model runs, as a table: transformers' defaults for what config.json leaves out, what the
// layers have, and how modules are called. What a flag or a name does not say, a family's own function reads.

#include "aimerge/architecture/model_config.h"
#include "architecture/key_reader.h"

#include <string_view>

namespace aimerge {

/// Which layers see a window only. None do where sliding_window is null.
struct WindowRule {
    bool isAskedFor = false;     // only with use_sliding_window
    bool isListed = false;       // layer_types says which, where it is there
    std::int64_t fullEvery = 0;  // else all but every so many-th (sliding_window_pattern), or, of 0, all
    std::int64_t fullFirst = 0;  // and behind so many (max_window_layers)
};

/// What the keys of sizes are called.
struct SizeKeys {
    const char *hidden = "hidden_size", *inner = "intermediate_size", *layers = "num_hidden_layers",
               *heads = "num_attention_heads", *keyValueHeads = "num_key_value_heads",
               *positions = "max_position_embeddings";
    std::int64_t innerFactor = 0;       // the inner size is so many times the hidden one where it is not there
    std::int64_t keyValueHeadsAre = 0;  // so many, whatever config.json says
};

/// Names within a layer; null: the family has no such module.
struct LayerNames {
    const char *beforeAttention = "input_layernorm", *behindAttention = nullptr;
    const char *beforeMlp = "post_attention_layernorm", *behindMlp = nullptr;
    const char *query = "self_attn.q_proj", *key = "self_attn.k_proj", *value = "self_attn.v_proj",
               *output = "self_attn.o_proj";
    const char* attention = nullptr;  // queries, keys and values in one
    const char *queryNorm = nullptr, *keyNorm = nullptr;
    const char *gate = "mlp.gate_proj", *up = "mlp.up_proj", *down = "mlp.down_proj";
    const char* mlp = nullptr;         // gate and up in one
    const char* activation = nullptr;  // a module of the activation function's numbers
};

struct DecoderFamily {
    std::string_view modelType;
    const DecoderFamily& (*variantOf)(const KeyReader& config) = nullptr;  // where config.json chooses between several
    const DecoderFamily* text = nullptr;  // of a model with other parts: the family of its text_config, if that does not say
    bool isFullyRead = false;

    std::int64_t vocabulary = 0, heads = 0, keyValueHeads = 0;  // 0: config.json must say it, or, the last, as many as heads
    std::int64_t maxPositions = 0, slidingWindow = 0;
    std::int64_t headDim = 0;  // 0: hidden / heads
    double eps = 1e-6, theta = 10000;
    const char* epsKey = "rms_norm_eps";
    const char *activationKey = "hidden_act", *activation = "silu";
    bool geluMeansTanh = false;
    std::optional<WindowRule> windows = {};
    SizeKeys sizes = {};

    LayerNames names = {};
    const char* layers = "model.layers.";
    const char *embedding = "model.embed_tokens.weight", *finalNorm = "model.norm", *head = "lm_head";
    NormKind norm = NormKind::Rms;
    Fusion fusion = Fusion::None;
    bool normalisesWholeWidth = false;  // query and key norms go over all heads at once
    bool normalisesRotated = false;
    bool isParallel = false;    // attention and MLP begin with the same hidden state
    bool isInputMajor = false;  // matrices are stored as [in, out]
    bool rotates = true, rotatesPart = false, rotatesInterleaved = false;
    double rotatedShare = 1;  // where config.json does not say

    void (*adjust)(const KeyReader& config, const ModelConfig& sizes, DecoderDescription& decoder) = nullptr;
};

extern const DecoderFamily kStarcoder2, kStableLm, kPhi, kNeoX, kGpt2, kOpt, kFalcon, kNemotron, kPersimmon, kGptJ,
    kGptBigCode;

/// Null for others.
const DecoderFamily* findDecoderFamily(std::string_view modelType);

/// @param reader of the values of one rope_scaling or rope_parameters
void readScaling(const KeyReader& reader, RopeScaling& rope);

/// @param config that of the text @throws InputError: what the decoder does not run
DecoderDescription describeDecoder(const DecoderFamily& family, const KeyReader& config, const ModelConfig& sizes);

}  // namespace aimerge
