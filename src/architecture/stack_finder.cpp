#include "architecture/stack_finder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <utility>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

/// What the lists of layers are called in the names of tensors.
constexpr std::array<std::string_view, 9> kLayerLists{
    "layers", "layer", "h", "blocks", "block", "resblocks", "encoder_layers", "decoder_layers", "conformer"};

/// The keys of config.json that say how many layers there are.
constexpr std::array<std::string_view, 14> kCountKeys{
    "num_hidden_layers", "n_layer",        "n_layers", "num_layers", "num_decoder_layers", "num_encoder_layers",
    "decoder_layers",    "encoder_layers", "depth",    "layers",     "num_blocks",         "conf_num_hidden_layers",
    "num_global_layers", "n_head_layers"};

/// How many layers for multi-token prediction are stored behind the others.
constexpr std::array<std::string_view, 2> kPredictionKeys{"num_nextn_predict_layers", "num_mtp_layers"};

/// Lists of numbers of layers, not of one value per layer, although they may be as long.
constexpr std::array<std::string_view, 10> kNumberLists{"moe_layers",
                                                        "mlp_only_layers",
                                                        "full_attention_idxs",
                                                        "full_attn_idxs",
                                                        "hybrid_layer_ids",
                                                        "attn_layer_indices",
                                                        "cross_attention_layers",
                                                        "moe_layer_indices",
                                                        "fullatt_block_indexes",
                                                        "deepstack_visual_indexes"};

/// Lists about something else, although they may be as long as the layers are many.
bool isAboutOtherThings(std::string_view key) {
    constexpr std::array<std::string_view, 7> kEnds{"_id", "_ids", "_indexes", "_indices", "_idxs", "_size", "_scales"};
    constexpr std::array<std::string_view, 6> kKeys{"architectures",        "mrope_section",       "image_grid_pinpoints",
                                                    "vision_feature_layer", "layers_to_transform", "suppress_tokens"};
    return std::ranges::find(kKeys, key) != kKeys.end() || std::ranges::any_of(kEnds, [&](std::string_view end) {
               return key.ends_with(end) && key != "intermediate_size";
           });
}

/// "model.layers."
bool isLayerList(std::string_view prefix) {
    if (prefix.empty() || isPredictionModule(prefix)) return false;
    const std::string_view path = prefix.substr(0, prefix.size() - 1);
    return std::ranges::find(kLayerLists, path.substr(path.rfind('.') + 1)) != kLayerLists.end();
}

struct Numbers {
    std::set<std::int64_t> seen;
    std::uint64_t elements = 0;
    std::int64_t count() const { return seen.empty() ? 0 : *seen.rbegin() + 1; }
    bool areConsecutive() const { return static_cast<std::int64_t>(seen.size()) == count(); }
};

/// A count of layers that config.json has.
struct Count {
    std::string path;
    std::int64_t value;
};

/// All counts of layers, of config.json itself and of its sections.
void collectCounts(const Json& config, const std::string& section, std::vector<Count>& counts) {
    for (const std::string_view key : kCountKeys) {
        const auto found = config.find(std::string(key));
        if (found != config.end() && found->is_number_integer())
            counts.push_back({section + "/" + std::string(key), found->get<std::int64_t>()});
    }
    for (const auto& [key, value] : config.items())
        if (value.is_object()) collectCounts(value, section + "/" + key, counts);
}

bool mentionsAny(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

/// Which part of a multimodal model a prefix, or a section of config.json, is about.
enum class Modality { Text, Vision, Audio, Unsaid };

Modality modalityOf(std::string_view text) {
    if (mentionsAny(text, {"vision", "visual", "image", "vit_"})) return Modality::Vision;
    if (mentionsAny(text, {"audio", "speech"})) return Modality::Audio;
    if (mentionsAny(text, {"text", "language", "llm"})) return Modality::Text;
    return Modality::Unsaid;
}

/// Whether a count of config.json may be that of the stack: a section about images says nothing of a stack of text.
bool mayBelong(std::string_view prefix, std::string_view path) {
    const Modality ofPrefix = modalityOf(prefix), ofSection = modalityOf(path);
    if (ofSection == Modality::Unsaid) {
        const std::string_view key = path.substr(path.rfind('/') + 1);
        if (key.starts_with("encoder_") || key == "num_encoder_layers")
            return prefix.find("decoder") == std::string_view::npos;
        if (key.starts_with("decoder_") || key == "num_decoder_layers")
            return prefix.find("encoder.") == std::string_view::npos;
        return ofPrefix == Modality::Unsaid || ofPrefix == Modality::Text;
    }
    if (ofSection == Modality::Text) return ofPrefix == Modality::Text || ofPrefix == Modality::Unsaid;
    return ofPrefix == ofSection;
}

std::int64_t predictionLayers(const Json& section) {
    for (const std::string_view key : kPredictionKeys) {
        const auto found = section.find(std::string(key));
        if (found != section.end() && found->is_number_integer() && found->get<std::int64_t>() > 0)
            return found->get<std::int64_t>();
    }
    return 0;
}

/// Layers and their counts from config.json, which may speak of prediction layers besides.
void readCounts(const Json& config, const std::vector<Count>& counts, const Numbers& numbers, Stack& stack) {
    stack.layers = numbers.count();
    const Count* largest = nullptr;  // of the counts that are not that of the names
    for (const Count& count : counts) {
        if (!mayBelong(stack.prefix, count.path)) continue;
        const Json* section = valueAt(config, sectionOf(count.path));
        const std::int64_t prediction = predictionLayers(*section);
        const bool isAll = count.value == numbers.count();
        const bool hasMore = prediction > 0 && numbers.count() > count.value && numbers.count() <= count.value + prediction;
        if (isAll || hasMore) {
            if (stack.countPaths.empty()) {
                stack.layers = count.value;
                stack.predictionLayers = numbers.count() - count.value;
            }
            if (count.value == stack.layers) stack.countPaths.push_back(count.path);
        } else if (count.path.ends_with("/num_hidden_layers") && (largest == nullptr || count.value > largest->value)) {
            largest = &count;
        }
    }
    // Names and config.json disagree about the number of layers: config.json's is taken, and whoever opens the model reports
    // the layers that are too many.
    if (stack.countPaths.empty() && largest != nullptr) {
        stack.layers = largest->value;
        stack.countPaths.push_back(largest->path);
    }
}

/// Where config.json speaks of the layers: beside their count; without a count, in the section that the prefix is about.
std::vector<std::string> sectionsOf(const Json& config, const Stack& stack) {
    std::vector<std::string> sections;
    for (const std::string& path : stack.countPaths)
        if (std::ranges::find(sections, sectionOf(path)) == sections.end()) sections.push_back(sectionOf(path));
    if (!sections.empty()) return sections;
    for (const auto& [key, value] : config.items())
        if (value.is_object() && modalityOf(key) != Modality::Unsaid && mayBelong(stack.prefix, "/" + key + "/x"))
            sections.push_back("/" + key);
    if (sections.empty()) sections.emplace_back();
    return sections;
}

void readLists(const Json& config, Stack& stack) {
    for (const std::string& section : sectionsOf(config, stack)) {
        for (const auto& [key, value] : valueAt(config, section)->items()) {
            const std::string path = section + "/" + key;
            const bool isPattern = value.is_string() && key.find("pattern") != std::string::npos &&
                                   std::cmp_equal(value.get_ref<const std::string&>().size(), stack.layers);
            const bool isNumbers = value.is_array() && std::ranges::find(kNumberLists, key) != kNumberLists.end();
            if (isNumbers)
                stack.numbers.push_back({path, value});
            else if (isPattern || (value.is_array() && std::cmp_equal(value.size(), stack.layers) && stack.layers > 1 &&
                                   !isAboutOtherThings(key)))
                stack.perLayer.push_back({path, value});
        }
    }
}

std::string stackName(std::string_view prefix, bool hasEncoderAndDecoder) {
    switch (modalityOf(prefix)) {
        case Modality::Vision:
            return "vision_tower";
        case Modality::Audio:
            return "audio_tower";
        case Modality::Text:
            return "text_decoder";
        case Modality::Unsaid:
            break;
    }
    const bool isEncoder =
        prefix.find("encoder") != std::string_view::npos && prefix.find("decoder") == std::string_view::npos;
    if (isEncoder) return "encoder";
    return hasEncoderAndDecoder ? "decoder" : "text_decoder";
}

void nameStacks(std::vector<Stack>& stacks) {
    const auto isEncoder = [](const Stack& stack) {
        return stack.prefix.find("encoder") != std::string::npos && stack.prefix.find("decoder") == std::string::npos;
    };
    const bool hasBoth = std::ranges::any_of(stacks, isEncoder) && !std::ranges::all_of(stacks, isEncoder);
    std::map<std::string, int> used;
    for (Stack& stack : stacks) {
        stack.name = stackName(stack.prefix, hasBoth);
        if (const int number = ++used[stack.name]; number > 1) stack.name += "_" + std::to_string(number);
    }
}

/// What makes text first, of several the decoder; then the larger.
int rankOf(const Stack& stack) {
    switch (modalityOf(stack.prefix)) {
        case Modality::Text:
            return 0;
        case Modality::Unsaid:
            return stack.prefix.find("encoder") != std::string::npos && stack.prefix.find("decoder") == std::string::npos
                       ? 2
                       : 1;
        default:
            return 3;
    }
}

}  // namespace

bool isPredictionModule(std::string_view name) {
    return name.starts_with("mtp.") || name.find(".mtp.") != std::string_view::npos;
}

bool isOfAnotherModality(std::string_view name) {
    const Modality modality = modalityOf(name);
    return modality == Modality::Vision || modality == Modality::Audio;
}

const Json* valueAt(const Json& config, const std::string& path) {
    const Json::json_pointer pointer(path);
    return config.contains(pointer) ? &config.at(pointer) : nullptr;
}

std::string sectionOf(const std::string& path) {
    return path.substr(0, path.rfind('/'));
}

std::optional<NumberedName> firstNumber(std::string_view tensor) {
    for (std::size_t begin = 0; begin < tensor.size();) {
        const std::size_t dot = tensor.find('.', begin);
        if (dot == std::string_view::npos) return std::nullopt;
        const std::string_view part = tensor.substr(begin, dot - begin);
        const bool isPlain = !part.empty() && part.size() < 10 && (part.size() == 1 || part[0] != '0') &&
                             std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
        if (isPlain) {
            std::int64_t number = 0;
            std::from_chars(part.data(), part.data() + part.size(), number);
            return NumberedName{tensor.substr(0, begin), number, tensor.substr(dot + 1)};
        }
        begin = dot + 1;
    }
    return std::nullopt;
}

std::vector<Stack> findStacks(const Json& config, std::span<const TensorInfo> tensors) {
    std::map<std::string_view, Numbers> prefixes;
    for (const TensorInfo& tensor : tensors) {
        const auto name = firstNumber(tensor.name);
        if (!name) continue;
        Numbers& numbers = prefixes[name->prefix];
        numbers.seen.insert(name->number);
        numbers.elements += static_cast<std::uint64_t>(tensor.elements());
    }
    std::vector<Count> counts;
    collectCounts(config, "", counts);

    std::vector<std::pair<Stack, std::uint64_t>> found;
    const auto add = [&](std::string_view prefix, const Numbers& numbers) {
        Stack stack;
        stack.prefix = prefix;
        readCounts(config, counts, numbers, stack);
        const auto hasCount = [&](const auto& other) { return other.first.countPaths == stack.countPaths; };
        if (isLayerList(prefix) || (!stack.countPaths.empty() && std::ranges::none_of(found, hasCount)))
            found.emplace_back(std::move(stack), numbers.elements);
    };
    for (const auto& [prefix, numbers] : prefixes)
        if (isLayerList(prefix)) add(prefix, numbers);
    // A list of another name is one of layers when config.json has a count of them that no other stack has.
    for (const auto& [prefix, numbers] : prefixes)
        if (!isLayerList(prefix) && !isPredictionModule(prefix) && numbers.count() > 1 && numbers.areConsecutive())
            add(prefix, numbers);
    std::ranges::stable_sort(found, [](const auto& a, const auto& b) {
        return std::pair(rankOf(a.first), ~a.second) < std::pair(rankOf(b.first), ~b.second);
    });
    std::vector<Stack> stacks;
    for (auto& [stack, elements] : found) {
        readLists(config, stack);
        stacks.push_back(std::move(stack));
    }
    nameStacks(stacks);
    return stacks;
}

}  // namespace aimerge
