#include "aimerge/vocabulary/tokenizer_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 12> kNames = {"tokenizer.json",
                                                     "tokenizer.model",
                                                     "tokenizer_config.json",
                                                     "special_tokens_map.json",
                                                     "added_tokens.json",
                                                     "vocab.json",
                                                     "merges.txt",
                                                     "vocab.txt",
                                                     "spiece.model",
                                                     "tokenizer.model.v3",
                                                     "chat_template.json",
                                                     "chat_template.jinja"};

ordered_json parseObject(const std::filesystem::path& path) {
    try {
        ordered_json root = ordered_json::parse(readTextFile(path));
        if (root.is_object()) return root;
    } catch (const ordered_json::exception& error) {
        throw InputError("{}: not valid JSON: {}", path.string(), error.what());
    }
    throw InputError("{}: expected a JSON object", path.string());
}

ordered_json flagsOf(const Token& token) {
    return {{"content", token.text},       {"single_word", token.singleWord}, {"lstrip", token.stripsLeft},
            {"rstrip", token.stripsRight}, {"normalized", token.normalized},  {"special", token.special}};
}

bool isDropped(const ordered_json& id, const OutputTokenizer& output) {
    return output.dropFrom && id.is_number_integer() && id.get<std::int64_t>() >= *output.dropFrom;
}

/// The same for an id as a key: "32000".
bool isDroppedKey(const std::string& key, const OutputTokenizer& output) {
    std::int64_t id = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    return error == std::errc{} && stop == key.data() + key.size() && isDropped(id, output);
}

/// Trained tokens cannot leave a tokenizer.json (the merges refer to them), which matters only when their ids are needed.
void requireFreeIds(const std::filesystem::path& path, const ordered_json& root, const OutputTokenizer& output) {
    const auto model = root.find("model");
    if (output.newTokens.empty() || model == root.end() || !model->is_object()) return;
    const ordered_json vocabulary = model->value("vocab", ordered_json());
    const std::int64_t firstNew = output.newTokens.front().id;
    std::int64_t highest = vocabulary.is_array() ? static_cast<std::int64_t>(vocabulary.size()) - 1 : -1;
    if (vocabulary.is_object())
        for (const auto& [text, id] : vocabulary.items())
            if (id.is_number_integer()) highest = std::max(highest, id.get<std::int64_t>());
    if (highest >= firstNew)
        throw InputError(
            "{}: its trained vocabulary reaches id {}, beyond the model's rows, where the new token '{}' would get id "
            "{}; choose another model's tokenizer with tokenizer_source",
            path.string(), highest, output.newTokens.front().text, firstNew);
}

std::string changedTokenizerJson(const std::filesystem::path& path, const OutputTokenizer& output) {
    ordered_json root = parseObject(path);
    requireFreeIds(path, root, output);
    ordered_json added = ordered_json::array();
    for (const ordered_json& entry : root.value("added_tokens", ordered_json::array()))
        if (!entry.is_object() || !isDropped(entry.value("id", ordered_json()), output)) added.push_back(entry);
    for (const Token& token : output.newTokens) {
        ordered_json entry = {{"id", token.id}};
        entry.update(flagsOf(token));
        added.push_back(std::move(entry));
    }
    root["added_tokens"] = std::move(added);
    return root.dump(2) + "\n";
}

std::string changedTokenizerConfig(const std::filesystem::path& path, const OutputTokenizer& output) {
    ordered_json root = parseObject(path);
    ordered_json decoder = ordered_json::object();
    for (const auto& [key, entry] : root["added_tokens_decoder"].items())
        if (!isDroppedKey(key, output)) decoder[key] = entry;
    for (const Token& token : output.newTokens) decoder[std::to_string(token.id)] = flagsOf(token);
    root["added_tokens_decoder"] = std::move(decoder);
    return root.dump(2) + "\n";
}

std::string changedAddedTokens(const std::filesystem::path& path, const OutputTokenizer& output) {
    const ordered_json present = exists(path) ? parseObject(path) : ordered_json::object();
    ordered_json kept = ordered_json::object();
    for (const auto& [text, id] : present.items())
        if (!isDropped(id, output)) kept[text] = id;
    for (const Token& token : output.newTokens) kept[token.text] = token.id;
    return kept.dump(2) + "\n";
}

bool hasDecoder(const std::filesystem::path& path) {
    return exists(path) && parseObject(path).contains("added_tokens_decoder");
}

/// The new text of a file that has to change, or to come into being.
std::optional<std::string> changedText(const std::filesystem::path& folder, const std::string& name,
                                       const OutputTokenizer& output) {
    const std::filesystem::path path = folder / name;
    const bool sentencePieceOnly = exists(folder / "tokenizer.model") && !exists(folder / "tokenizer.json");
    if (name == "tokenizer.json" && exists(path)) return changedTokenizerJson(path, output);
    if (name == "tokenizer_config.json" && hasDecoder(path)) return changedTokenizerConfig(path, output);
    if (name == "added_tokens.json" && (exists(path) || (sentencePieceOnly && !output.newTokens.empty())))
        return changedAddedTokens(path, output);
    return std::nullopt;
}

std::vector<std::string> namesOf(const std::filesystem::path& folder) {
    std::vector<std::string> names(kNames.begin(), kNames.end());
    const auto fixedNames = static_cast<std::ptrdiff_t>(names.size());
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".tiktoken") names.push_back(entry.path().filename().string());
    std::sort(names.begin() + fixedNames, names.end());
    return names;
}

}  // namespace

std::span<const std::string_view> tokenizerFileNames() {
    return kNames;
}

std::vector<TokenizerFile> outputTokenizerFiles(const std::filesystem::path& folder, const OutputTokenizer& output) {
    std::vector<TokenizerFile> files;
    for (const std::string& name : namesOf(folder)) {
        if (std::optional<std::string> text = output.unchanged() ? std::nullopt : changedText(folder, name, output)) {
            files.push_back({name, {}, *std::move(text)});
        } else if (exists(folder / name)) {
            files.push_back({name, folder / name, {}});
        }
    }
    return files;
}

}  // namespace aimerge
