#include "config/misplaced_keys.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

struct KnownKey {
    std::string_view key, words;
};

/// Keys that decide the result, and how they are written.
constexpr std::array kHomes{
    KnownKey{"merge_method", "write it at the top level"},
    KnownKey{"base_model", "write it at the top level or in a slice"},
    KnownKey{"models", "write it at the top level or in a module"},
    KnownKey{"slices", "write it at the top level or in a module"},
    KnownKey{"modules", "write it at the top level"},
    KnownKey{"dtype", "write it at the top level"},
    KnownKey{"out_dtype", "write it at the top level"},
    KnownKey{"tokenizer_source", "write it at the top level"},
    KnownKey{"tokenizer", "write it at the top level"},
    KnownKey{"chat_template", "write it at the top level"},
    KnownKey{"unsafe_truncate_embeddings", "write it at the top level"},
    KnownKey{"seed", "write it at the top level"},
    KnownKey{"aim", "write it at the top level"},
    KnownKey{"featcal", "write it at the top level"},
    KnownKey{"calibration", "write it at the top level, in aim or beside a model"},
    KnownKey{"model", "write it in the entries of 'models' or 'sources'"},
    KnownKey{"sources", "write it in the entries of 'slices'"},
    KnownKey{"layer_range", "write it in the 'sources' of a slice"},
    KnownKey{"parameters", "write it at the top level, in a slice or beside a model"},
    KnownKey{"revision", "write the model as NAME@REVISION"},
    KnownKey{"lora", "write the model as NAME+ADAPTER"},
    KnownKey{"filter", "write {filter: ..., value: ...} as the value of a parameter"},
    KnownKey{"value", "write {filter: ..., value: ...} as the value of a parameter"},
    KnownKey{"tokens", "write it in 'tokenizer'"},
    KnownKey{"pad_to_multiple_of", "write it in 'tokenizer'"},
    KnownKey{"omega", "write it in 'aim'"},
    KnownKey{"statistic", "write it in 'aim'"},
    KnownKey{"statistics", "write it in 'aim'"},
    KnownKey{"corpus", "write it in 'calibration'"},
    KnownKey{"token_ids", "write it in 'calibration'"},
    KnownKey{"experts", "it is of a sweep: aimerge sweep"},
    KnownKey{"combinations", "it is of a sweep: aimerge sweep"},
    KnownKey{"methods", "it is of a sweep: aimerge sweep"},
    KnownKey{"evaluation", "it is of a sweep: aimerge sweep"},
};

/// Keys of older configs and of mergekit's command line.
constexpr std::array kReplaced{
    KnownKey{"random_seed", "for methods that draw random numbers write 'seed', or --set seed=N"},
    KnownKey{"residual_weight", "mergekit does not use it either"},
    KnownKey{"override_architecture", "a model is what its own files say"},
    KnownKey{"embed_slerp", "embeddings are merged like other tensors; 't' with a filter gives them a value of their own"},
    KnownKey{"input_model_parameters", "write 'parameters' in the entries of 'models'"},
};

template <typename List>
std::string_view wordsFor(std::string_view key, const List& list) {
    const auto found = std::ranges::find(list, key, &KnownKey::key);
    return found == list.end() ? std::string_view{} : found->words;
}

std::string placeOf(const std::string& name) {
    return name.empty() ? "at the top level" : "in " + name;
}

std::string textOf(const YamlNode& node) {
    return node.kind == YamlNode::Kind::Scalar ? node.text : "";
}

}  // namespace

bool isKeyOfConfig(std::string_view key) {
    return !wordsFor(key, kHomes).empty() || !wordsFor(key, kReplaced).empty();
}

void noteUnread(const YamlEntry& entry, const std::string& name, const std::vector<std::string>& known, UnreadKeys& unread) {
    if (entry.key.starts_with("x-")) return;
    const std::string place = placeOf(name);
    UnreadKey key{entry.key, place, entry.mark, textOf(entry.value), {}};
    if (!wordsFor(entry.key, kHomes).empty()) {
        key.reason = fmt::format("'{}' has no effect here and repeats what the top level says", entry.key);
        unread.push_back(std::move(key));
        return;
    }
    std::string hint(wordsFor(entry.key, kReplaced));
    const std::string slip = hint.empty() ? misspeltName(entry.key, known) : "";
    const bool isOverride = entry.mark.line == 0;
    if (!slip.empty() || isOverride)
        throw UsageError("{}: unknown key '{}' {}{} (known keys: {})", entry.mark.text(), entry.key, place,
                         slip.empty() ? "" : fmt::format("; did you mean '{}'?", slip), fmt::join(known, ", "));
    const std::string nearest = nearestName(entry.key, known);
    if (hint.empty() && !nearest.empty()) hint = fmt::format("the nearest known one is '{}'", nearest);
    key.reason = fmt::format("the key '{}' is not known here and is ignored{}{}", entry.key, hint.empty() ? "" : "; ", hint);
    unread.push_back(std::move(key));
}

void refuseMisplaced(const YamlNode& file, const UnreadKeys& unread) {
    for (const UnreadKey& key : unread) {
        const std::string_view words = wordsFor(key.key, kHomes);
        if (words.empty()) continue;
        const YamlEntry* const home = file.find(key.key);
        const bool repeats = home != nullptr && !key.value.empty() && textOf(home->value) == key.value;
        if (!repeats) throw UsageError("{}: '{}' has no effect {}; {}", key.mark.text(), key.key, key.place, words);
    }
}

}  // namespace aimerge
