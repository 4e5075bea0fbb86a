#pragma once
// What a model's own files say about its structure: which tensors are the layers of which stack, and what each is for. Made
// from config.json and the names and shapes of the tensors; no weight is read. Everything that asks where a tensor stands
// asks here: no file outside of this room and the decoder spells the names of tensors.
//
// Known families are data (src/architecture/families). Others are inferred: a prefix whose numbers run from 0 to one less
// than a count of config.json is a stack. What is not understood is said by whoever needs it. A matrix of a family that is
// not known counts as [out, in], as torch.nn.Linear stores it.

#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aimerge {

struct Family;

/// What a tensor is for.
enum class Role {
    Embedding,    // [vocabulary, .]: a row per token
    Lookup,       // other tables whose rows are looked up: positions, token types
    Linear,       // a matrix that its input is multiplied with
    Experts,      // [experts, ., .]: one matrix per expert of a mixture; or per head, in some hybrids
    Router,       // [experts, hidden]: which experts a token goes to
    Norm,         // the weight of a norm
    Convolution,  // its last axes are the kernel
    Head,         // [vocabulary, hidden]: from the last hidden state to the tokens
    Bias,
    Buffer,  // not learnt: loaders compute it by themselves, or training counts with it
    Other
};

std::string_view roleName(Role role);  // "embedding", ...

/// Where a tensor stands.
enum class Part {
    BeforeLayers,  // what enters the first layer of its stack: embeddings, positions, their norm
    Layer,
    Prediction,    // a layer behind the last, for multi-token prediction (num_nextn_predict_layers)
    BehindLayers,  // what the last layer enters: final norm, head, classifier
    Aside          // neither: between two stacks, or not understood
};

struct Place {
    Part part = Part::Aside;
    std::size_t stack = 0;    // in Architecture::stacks(); of Part::Aside nothing, unless isWithin
    std::int64_t layer = -1;  // for Part::Layer; for Part::Prediction its place behind the last layer, from 0, or -1 where
                              // prediction has modules of its own (mtp.*)

    bool isWithin = false;  // of Part::Aside: its name is that of `stack` alone, as with the mergers of a vision tower

    /// The tensor's name has the number of a layer.
    bool isNumbered() const { return layer >= 0; }
    bool isLayer(std::size_t ofStack, std::int64_t number) const {
        return part == Part::Layer && stack == ofStack && layer == number;
    }
};

/// A list of config.json that is about the layers of a stack.
struct LayerList {
    std::string path;               // JSON pointer: "/text_config/layer_types"
    nlohmann::ordered_json values;  // an array; or a text with a character per layer. Where the file has none, what it means
};

/// Layers that are alike or nearly so, one after another: a text decoder, a vision tower.
struct Stack {
    std::string name;                     // as mergekit's `modules` call it: "text_decoder", "vision_tower"
    std::string prefix;                   // "model.language_model.layers."
    std::int64_t layers = 0;              // without those for multi-token prediction
    std::int64_t predictionLayers = 0;    // behind them
    std::vector<std::string> countPaths;  // JSON pointers to the number of layers in config.json; empty: it does not say
    std::vector<LayerList> perLayer;      // lists with one value per layer
    std::vector<LayerList> numbers;       // lists of numbers of layers

    std::string_view root() const;  // the prefix without its last part: "model.language_model."
};

/// One tensor.
struct Parameter {
    Role role = Role::Other;
    Place place;
    std::int64_t expert = -1;         // of a mixture, whose experts are tensors of their own
    std::string module;               // its name without ".weight": what statistics call it
    bool hasExpertsOwnInput = false;  // of an expert: what enters it is the expert's inner activation, not the block's input
    int inputAxis = -1;               // which axis its input is multiplied along, counted from the last, -1; for matrices
    bool inputAxisIsKnown = true;     // false: neither family nor shape tell
    bool hasVocabularyRows = false;   // vocabularyAxis() is the vocabulary
};

/// A matrix within a tensor that holds several, in the order of its bytes.
struct MatrixPart {
    std::string name;         // as a checkpoint with a tensor of its own for each names it
    std::int64_t expert = 0;  // whose it is
    std::int64_t first = 0;   // element of the tensor
    Shape shape;              // of the part
};

/// By what the layers of a stack differ.
struct LayerKinds {
    std::vector<std::string> tensors;  // of every layer: names and shapes of its tensors
    std::vector<std::string> listed;   // of every layer: what the lists of config.json say about it
    std::int64_t differentFirst = 0;   // so many layers at the beginning may differ from the others: config.json counts them
    std::string byNumber;              // why the kind of a layer follows from its number; empty: it does not
};

/// Which axis of a tensor with Parameter::hasVocabularyRows has the tokens: 0, but for a bias that is stored as [1,
/// vocabulary].
inline std::size_t vocabularyAxis(const Shape& shape) {
    return shape.size() == 2 && shape[0] == 1 ? 1 : 0;
}

class Architecture;

/// A layer of some model.
struct LayerSource {
    const Architecture* architecture = nullptr;
    std::int64_t layer = 0;
};

class Architecture {
public:
    Architecture() = default;

    /// @param config of config.json @param tensors all of the model
    Architecture(const nlohmann::ordered_json& config, std::span<const TensorInfo> tensors);

    const std::string& modelType() const { return modelType_; }   // "llama"; empty where config.json does not say
    const std::string& className() const { return className_; }   // architectures[0]; likewise
    const std::vector<Stack>& stacks() const { return stacks_; }  // the one that makes text, or the largest, comes first
    std::int64_t layers() const { return stacks_.empty() ? 0 : stacks_.front().layers; }  // of the first stack
    const Family* family() const { return family_; }                                      // null: not a known one
    std::int64_t vocabularySize() const { return vocabularySize_; }                       // 0: no vocabulary
    std::int64_t hiddenSize() const { return hiddenSize_; }                               // 0: config.json does not say it

    /// It has experts that a router chooses from.
    bool isMixture() const { return experts_ > 1; }

    /// Which share of the tokens comes to a matrix, on average: to an expert as many as a router chooses, to others all.
    double shareOfTokens(const Parameter& parameter) const;

    /// The stack of that name; nullopt when there is none.
    std::optional<std::size_t> findStack(std::string_view name) const;

    Place placeOf(std::string_view tensor) const;
    Parameter describe(std::string_view tensor, const Shape& shape) const;
    Parameter describe(const TensorInfo& tensor) const { return describe(tensor.name, tensor.shape); }

    /// The name with another layer's number. @pre placeOf(tensor).part is Layer or Prediction
    /// @param layer counted from the first layer of the stack, prediction layers behind the last
    std::string withLayer(std::string_view tensor, std::int64_t layer) const;

    /// Model order: what comes before the layers of the first stack, its layers, norms behind them, head, the rest; by name
    /// within each.
    template <typename Item, typename NameOf>
    void sortInModelOrder(std::vector<Item>& items, NameOf nameOf) const;

    /// This architecture with another number of layers in a stack: that of what slices make of it.
    Architecture withLayerCount(std::size_t stack, std::int64_t layers) const;

    /// The token table and the head of the first stack: their names, also that of a head which is tied and not stored.
    /// Empty when the model has none.
    const std::string& embedding() const { return embedding_; }
    const std::string& head() const { return head_; }

    bool isVocabularyTensor(std::string_view tensor, const Shape& shape) const {
        return describe(tensor, shape).hasVocabularyRows;
    }

    /// The matrices of a tensor of Role::Experts, so that a fused checkpoint merges as one with a tensor per expert does.
    /// Empty: the tensor is one matrix.
    std::vector<MatrixPart> partsOf(std::string_view tensor, const Shape& shape) const;

    /// The module under which a shared input is recorded: q_proj for k_proj and v_proj, gate_proj for up_proj. A module that
    /// shares its input with none gives itself.
    std::string moduleWithSameInput(std::string_view module) const;

    /// The router of an expert's block: its input is that of all the block's experts together. Empty where there is none, or
    /// where experts get their input scaled.
    std::string routerOf(std::string_view module) const;

    /// Why a model whose layer i is layer `from[i].layer` of a model of this kind would not be what its layers were; empty
    /// when it would. @param stack of this model and of those in `from`
    std::string whyNotRenumbered(std::size_t stack, const std::vector<LayerSource>& from) const;

private:
    struct Order {
        int group = 0;
        std::size_t stack = 0;
        std::int64_t layer = -1;
        auto operator<=>(const Order&) const = default;
    };
    Order orderOf(std::string_view tensor) const;
    Place placeOutsideLayers(std::string_view tensor) const;
    std::string_view nameInLayer(std::string_view module, const Place& place) const;           // behind the layer's number
    std::optional<int> inputAxisOfExperts(const Shape& shape, bool hasExpertsOwnInput) const;  // nullopt: not known
    void findVocabulary(std::span<const TensorInfo> tensors);

    std::string modelType_, className_;
    const Family* family_ = nullptr;
    std::vector<Stack> stacks_;
    std::vector<LayerKinds> kinds_;  // of the stacks
    std::string embedding_, head_;
    std::map<std::string, std::string> routers_;  // modules, by what stands before their last part
    std::int64_t vocabularySize_ = 0, hiddenSize_ = 0, experts_ = 0, expertsPerToken_ = 0;
};

template <typename Item, typename NameOf>
void Architecture::sortInModelOrder(std::vector<Item>& items, NameOf nameOf) const {
    std::vector<std::pair<Order, Item>> keyed;
    keyed.reserve(items.size());
    for (Item& item : items) {
        const Order order = orderOf(nameOf(item));
        keyed.emplace_back(order, std::move(item));
    }
    std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
        return a.first != b.first ? a.first < b.first
                                  : std::string_view(nameOf(a.second)) < std::string_view(nameOf(b.second));
    });
    for (std::size_t i = 0; i < items.size(); ++i) items[i] = std::move(keyed[i].second);
}

/// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj"; names without the suffix stay as they are.
std::string_view moduleOf(std::string_view tensor);

/// Sets vocab_size wherever config.json says it of the text; one that says it nowhere stays so.
void setVocabularySize(nlohmann::ordered_json& config, std::int64_t rows);

/// Whether the embedding serves as head; nullopt where config.json does not say.
std::optional<bool> saysTied(const nlohmann::ordered_json& config);

/// What config.json says by this key at its top, else in the section about the text; null where it says nothing, or null.
const nlohmann::ordered_json* findOfText(const nlohmann::ordered_json& config, const char* key);

/// Whether the embedding serves as head, as transformers takes config.json: where it does not say, the model type's default.
bool isTied(const nlohmann::ordered_json& config);

/// Sets tie_word_embeddings to false wherever config.json has it, and at its top.
void setUntied(nlohmann::ordered_json& config);

/// Buffers that loaders compute by themselves and that older versions of transformers stored: rotary frequencies, and causal
/// masks, which are [1, 1, n, n] where a learned bias has one dimension.
bool isDerivable(std::string_view tensor, const Shape& shape);

}  // namespace aimerge
