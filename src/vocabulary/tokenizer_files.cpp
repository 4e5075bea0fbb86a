#include "aimerge/vocabulary/tokenizer_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <string_view>

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

constexpr const char* kTokenizerConfigName = "tokenizer_config.json";
constexpr const char* kAddedTokensName = "added_tokens.json";
constexpr const char* kSpecialTokensName = "special_tokens_map.json";
constexpr const char* kDecoder = "added_tokens_decoder";

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

/// As isDropped(), for an id as a key: "32000".
bool isDroppedKey(const std::string& key, const OutputTokenizer& output) {
    std::int64_t id = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    return error == std::errc{} && stop == key.data() + key.size() && isDropped(id, output);
}

/// Trained tokens cannot leave a tokenizer (its merges refer to them), which matters only when their ids are needed.
/// @param vocabulary of tokenizer.json's model, or vocab.json
void requireFreeIds(const std::filesystem::path& path, const ordered_json& vocabulary, const OutputTokenizer& output) {
    if (output.newTokens.empty()) return;
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

/// An entry of tokenizer.json's `added_tokens` or of `added_tokens_decoder`, as it stays.
ordered_json keptEntry(ordered_json entry, const OutputTokenizer& output) {
    if (output.ownTokensFirst && entry.is_object()) entry["normalized"] = false;
    return entry;
}

/// Calls visit(token) for what joins the added tokens.
template <typename Visit>
void forEachNewEntry(const OutputTokenizer& output, const Visit& visit) {
    std::ranges::for_each(output.marked, visit);
    std::ranges::for_each(output.newTokens, visit);
}

std::string changedTokenizerJson(const std::filesystem::path& path, const OutputTokenizer& output) {
    ordered_json root = parseObject(path);
    if (const auto model = root.find("model"); model != root.end() && model->is_object())
        requireFreeIds(path, model->value("vocab", ordered_json()), output);
    ordered_json added = ordered_json::array();
    for (const ordered_json& entry : root.value("added_tokens", ordered_json::array()))
        if (!entry.is_object() || !isDropped(entry.value("id", ordered_json()), output))
            added.push_back(keptEntry(entry, output));
    forEachNewEntry(output, [&](const Token& token) {
        ordered_json entry = {{"id", token.id}};
        entry.update(flagsOf(token));
        added.push_back(std::move(entry));
    });
    root["added_tokens"] = std::move(added);
    return root.dump(2) + "\n";
}

/// @param root of tokenizer_config.json, with a decoder
std::string changedTokenizerConfig(ordered_json root, const OutputTokenizer& output) {
    ordered_json decoder = ordered_json::object();
    for (const auto& [key, entry] : root[kDecoder].items())
        if (!isDroppedKey(key, output)) decoder[key] = keptEntry(entry, output);
    forEachNewEntry(output, [&](const Token& token) { decoder[std::to_string(token.id)] = flagsOf(token); });
    root[kDecoder] = std::move(decoder);
    return root.dump(2) + "\n";
}

/// tokenizer_config.json with what special_tokens_map.json and added_tokens.json say. Readers look into those two only where
/// there is no decoder, and added_tokens.json has no flags.
ordered_json withDecoder(const std::filesystem::path& folder) {
    const auto textOf = [](const ordered_json& token) {
        return token.is_object() ? token.value("content", ordered_json()) : token;
    };
    ordered_json root =
        exists(folder / kTokenizerConfigName) ? parseObject(folder / kTokenizerConfigName) : ordered_json::object();
    if (root.contains(kDecoder)) return root;
    const ordered_json special =
        exists(folder / kSpecialTokensName) ? parseObject(folder / kSpecialTokensName) : ordered_json::object();
    for (const auto& [key, value] : special.items()) {
        if (!value.is_array()) {
            root[key] = textOf(value);
            continue;
        }
        ordered_json texts = ordered_json::array();
        for (const ordered_json& token : value) texts.push_back(textOf(token));
        root[key] = std::move(texts);
    }
    root[kDecoder] = ordered_json::object();
    const Vocabulary vocabulary = Vocabulary::read(folder);
    for (const Token& token : vocabulary.tokens())
        if (token.added) root[kDecoder][std::to_string(token.id)] = flagsOf(token);
    return root;
}

std::string changedAddedTokens(const std::filesystem::path& path, const OutputTokenizer& output) {
    const ordered_json present = exists(path) ? parseObject(path) : ordered_json::object();
    ordered_json kept = ordered_json::object();
    for (const auto& [text, id] : present.items())
        if (!isDropped(id, output)) kept[text] = id;
    forEachNewEntry(output, [&](const Token& token) { kept[token.text] = token.id; });
    return kept.dump(2) + "\n";
}

void setText(std::vector<TokenizerFile>& files, const std::string& name, std::string text) {
    auto file = std::ranges::find(files, name, &TokenizerFile::name);
    if (file == files.end()) file = files.insert(files.end(), {name, {}, {}});
    *file = {name, {}, std::move(text)};
}

/// Names of the files in the folder that end so, sorted.
std::vector<std::string> namesWithEnd(const std::filesystem::path& folder, std::string_view end) {
    std::vector<std::string> names;
    if (!is_directory(folder)) return names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (const std::string name = entry.path().filename().string(); name.ends_with(end)) names.push_back(name);
    std::ranges::sort(names);
    return names;
}

}  // namespace

std::vector<std::string> additionalChatTemplates(const std::filesystem::path& folder) {
    std::vector<std::string> names = namesWithEnd(folder / kAdditionalChatTemplates, ".jinja");
    for (std::string& name : names) name.insert(0, std::string(kAdditionalChatTemplates) + "/");
    return names;
}

std::vector<std::string> tokenizerFilesIn(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    for (const std::string_view name : kNames)
        if (exists(folder / name)) names.emplace_back(name);
    std::ranges::move(namesWithEnd(folder, ".tiktoken"), std::back_inserter(names));
    std::ranges::move(additionalChatTemplates(folder), std::back_inserter(names));
    return names;
}

std::vector<TokenizerFile> outputTokenizerFiles(const std::filesystem::path& folder, const OutputTokenizer& output) {
    std::vector<TokenizerFile> files;
    for (const std::string& name : tokenizerFilesIn(folder)) files.push_back({name, folder / name, {}});
    if (output.unchanged()) return files;

    const std::filesystem::path json = folder / "tokenizer.json", trained = folder / "vocab.json";
    const bool hasJson = exists(json), hasModel = !hasJson && exists(folder / "tokenizer.model");
    const bool hasPieces = !hasJson && !hasModel && exists(trained);
    const bool joins = !output.newTokens.empty() || !output.marked.empty();
    if (hasJson) setText(files, "tokenizer.json", changedTokenizerJson(json, output));
    if (hasPieces) requireFreeIds(trained, parseObject(trained), output);
    ordered_json config;
    if (hasPieces && joins)
        config = withDecoder(folder);
    else if (exists(folder / kTokenizerConfigName))
        config = parseObject(folder / kTokenizerConfigName);
    if (config.contains(kDecoder)) setText(files, kTokenizerConfigName, changedTokenizerConfig(std::move(config), output));
    if (exists(folder / kAddedTokensName) || ((hasModel || hasPieces) && joins))
        setText(files, kAddedTokensName, changedAddedTokens(folder / kAddedTokensName, output));
    return files;
}

}  // namespace aimerge
