#include "aimerge/vocabulary/vocabulary.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <sentencepiece_processor.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace aimerge {
namespace {

using nlohmann::json;

/// Parses a file, leaving out the merges of a BPE model: they are half of a large tokenizer.json and no token's id depends
/// on them.
json parseWithoutMerges(const std::filesystem::path& path) {
    const auto keep = [](int depth, json::parse_event_t event, json& value) {
        return !(depth == 2 && event == json::parse_event_t::key && value == "merges");
    };
    try {
        return json::parse(readTextFile(path), keep);
    } catch (const json::exception& error) {
        throw InputError("{}: not valid JSON: {}", path.string(), error.what());
    }
}

std::int64_t tokenId(const json& value, const std::filesystem::path& path, const std::string& text) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > INT32_MAX)
        throw InputError("{}: the id of token '{}' is {}, expected a number from 0 to 2147483647", path.string(), text,
                         value.dump());
    return value.get<std::int64_t>();
}

/// The tokens of one folder while they are collected; a text that is there already is left as it is, as in the tokenizers
/// library, where the trained vocabulary decides the id and an added token of the same text only adds its flags.
class Collector {
public:
    explicit Collector(const std::filesystem::path& path) : path_(path) {}

    void addTrained(std::string text, std::int64_t id, bool special) {
        Token token;
        token.text = std::move(text);
        token.id = id;
        token.special = special;
        insert(std::move(token));
    }

    /// @param entry {"content", "special", "lstrip", "rstrip", "single_word", "normalized"}
    void addAdded(const json& entry, std::int64_t id) {
        if (!entry.is_object() || !entry.contains("content") || !entry["content"].is_string())
            throw InputError("{}: the added token with id {} has no text under 'content'", path_.string(), id);
        Token token;
        token.text = entry["content"].get<std::string>();
        token.id = id;
        token.added = true;
        token.special = flag(entry, "special");
        token.singleWord = flag(entry, "single_word");
        token.stripsLeft = flag(entry, "lstrip");
        token.stripsRight = flag(entry, "rstrip");
        token.normalized = flag(entry, "normalized");
        insert(std::move(token));
    }

    /// A token that the tokenizer names for a purpose, such as bos_token: it is special, and gets the next id where the
    /// vocabulary lacks it.
    /// @param entry its text, or an object as for addAdded()
    void addSpecial(const json& entry) {
        const json content = entry.is_object() ? entry.value("content", json()) : entry;
        if (!content.is_string()) return;
        const auto known = byText_.find(content.get<std::string>());
        if (known != byText_.end() && tokens_[known->second].added) {
            tokens_[known->second].special = true;
            return;
        }
        json token = entry.is_object() ? entry : json{{"content", content}};
        token["special"] = true;
        addAdded(token, nextId_);
    }

    void readFrom(const std::filesystem::path& path) { path_ = path; }
    std::vector<Token> take() { return std::move(tokens_); }

private:
    bool flag(const json& entry, const char* key) const {
        const auto found = entry.find(key);
        if (found == entry.end()) return false;
        if (!found->is_boolean())
            throw InputError("{}: '{}' of added token {} is {}, expected true or false", path_.string(), key,
                             entry["content"].dump(), found->dump());
        return found->get<bool>();
    }

    void insert(Token token) {
        const auto [place, isNew] = byText_.try_emplace(token.text, tokens_.size());
        if (isNew) {
            nextId_ = std::max(nextId_, token.id + 1);
            tokens_.push_back(std::move(token));
            return;
        }
        Token& known = tokens_[place->second];
        if (!token.added || known.added) return;
        token.id = known.id;
        known = std::move(token);
    }

    std::filesystem::path path_;
    std::vector<Token> tokens_;
    std::unordered_map<std::string, std::size_t> byText_;
    std::int64_t nextId_ = 0;
};

void collectTrained(Collector& collector, const json& vocabulary, const std::filesystem::path& path) {
    if (vocabulary.is_object()) {
        for (const auto& [text, id] : vocabulary.items()) collector.addTrained(text, tokenId(id, path, text), false);
    } else if (vocabulary.is_array()) {
        std::int64_t id = 0;
        for (const json& piece : vocabulary) {
            if (!piece.is_array() || piece.empty() || !piece[0].is_string())
                throw InputError("{}: model.vocab entry {} is {}, expected [text, score]", path.string(), id, piece.dump());
            collector.addTrained(piece[0].get<std::string>(), id++, false);
        }
    } else {
        throw InputError("{}: the key model.vocab is missing; it must map tokens to ids, or list [token, score] pairs",
                         path.string());
    }
}

void collectFromTokenizerJson(Collector& collector, const std::filesystem::path& path) {
    const json root = parseWithoutMerges(path);
    const auto model = root.is_object() ? root.find("model") : root.end();
    if (!root.is_object() || model == root.end() || !model->is_object())
        throw InputError("{}: the key 'model' is missing; is this a tokenizer.json of the tokenizers library?",
                         path.string());
    collectTrained(collector, model->value("vocab", json()), path);
    const json added = root.value("added_tokens", json::array());
    if (!added.is_array()) throw InputError("{}: 'added_tokens' is not a list", path.string());
    for (const json& entry : added) {
        if (!entry.is_object())
            throw InputError("{}: an entry of 'added_tokens' is {}, expected an object", path.string(), entry.dump());
        collector.addAdded(entry, tokenId(entry.value("id", json()), path, entry.value("content", std::string())));
    }
}

void collectFromSentencePiece(Collector& collector, const std::filesystem::path& path) {
    sentencepiece::SentencePieceProcessor processor;
    const auto status = processor.LoadFromSerializedProto(readTextFile(path));
    if (!status.ok()) throw InputError("{}: not a SentencePiece model: {}", path.string(), status.ToString());
    for (int id = 0; id < processor.GetPieceSize(); ++id)
        collector.addTrained(processor.IdToPiece(id), id, processor.IsControl(id) || processor.IsUnknown(id));
}

void collectFromVocabJson(Collector& collector, const std::filesystem::path& path) {
    const json root = parseWithoutMerges(path);
    if (!root.is_object()) throw InputError("{}: expected an object of token: id", path.string());
    collectTrained(collector, root, path);
}

/// The tokens that a tokenizer's settings name for a purpose; those of transformers' own names first, as it gives them ids.
std::vector<json> namedTokens(const json& config) {
    constexpr std::array kFirst = {"bos_token", "eos_token", "unk_token", "sep_token",
                                   "pad_token", "cls_token", "mask_token"};
    std::vector<json> named;
    for (const char* key : kFirst)
        if (const auto found = config.find(key); found != config.end()) named.push_back(*found);
    for (const auto& [key, value] : config.items())
        if (key.ends_with("_token") && std::ranges::find(kFirst, key) == kFirst.end()) named.push_back(value);
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
        if (const auto found = config.find(key); found != config.end() && found->is_array())
            named.insert(named.end(), found->begin(), found->end());
    return named;
}

std::string_view textOf(const json& token) {
    const json* const content = token.is_object() && token.contains("content") ? &token["content"] : &token;
    return content->is_string() ? std::string_view(content->get_ref<const std::string&>()) : std::string_view();
}

/// The file has no flags: a token is special where `named` has it.
void collectAddedTokensJson(Collector& collector, const std::filesystem::path& path, const std::vector<json>& named) {
    const json root = parseWithoutMerges(path);
    if (!root.is_object()) throw InputError("{}: expected an object of token: id", path.string());
    for (const auto& [text, id] : root.items()) {
        const bool special = std::ranges::find(named, std::string_view(text), textOf) != named.end();
        collector.addAdded({{"content", text}, {"normalized", !special}, {"special", special}}, tokenId(id, path, text));
    }
}

json parseConfig(const std::filesystem::path& path) {
    if (!exists(path)) return json::object();
    json root = parseWithoutMerges(path);
    if (!root.is_object()) throw InputError("{}: expected an object", path.string());
    return root;
}

void collectDecoder(Collector& collector, const json& config, const std::filesystem::path& path) {
    const auto decoder = config.find("added_tokens_decoder");
    if (decoder == config.end()) return;
    if (!decoder->is_object()) throw InputError("{}: 'added_tokens_decoder' is not an object", path.string());
    for (const auto& [key, entry] : decoder->items()) {
        std::int32_t id = -1;
        const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc{} || stop != key.data() + key.size() || id < 0)
            throw InputError("{}: the key '{}' of added_tokens_decoder is not a token id", path.string(), key);
        collector.addAdded(entry, id);
    }
}

/// As in transformers, the decoder of tokenizer_config.json makes special_tokens_map.json and
/// added_tokens.json count for nothing.
void collectBesideVocabJson(Collector& collector, json config, const std::filesystem::path& folder) {
    collector.readFrom(folder / "tokenizer_config.json");
    if (config.contains("added_tokens_decoder")) {
        collectDecoder(collector, config, folder / "tokenizer_config.json");
    } else {
        config.update(parseConfig(folder / "special_tokens_map.json"));
        const std::filesystem::path added = folder / "added_tokens.json";
        collector.readFrom(added);
        if (exists(added)) collectAddedTokensJson(collector, added, namedTokens(config));
    }
    for (const json& token : namedTokens(config)) collector.addSpecial(token);
}

}  // namespace

Vocabulary::Vocabulary(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
    std::stable_sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.id < b.id; });
    byText_.reserve(tokens_.size());
    for (std::size_t index = 0; index < tokens_.size(); ++index) byText_.try_emplace(tokens_[index].text, index);
}

Vocabulary Vocabulary::read(const std::filesystem::path& folder) {
    const std::filesystem::path tokenizerJson = folder / "tokenizer.json", model = folder / "tokenizer.model";
    const std::filesystem::path vocabJson = folder / "vocab.json", configFile = folder / "tokenizer_config.json";
    const std::filesystem::path addedJson = folder / "added_tokens.json";
    const json config = parseConfig(configFile);
    Collector collector(tokenizerJson);
    if (exists(tokenizerJson)) {
        collectFromTokenizerJson(collector, tokenizerJson);
    } else if (exists(model)) {
        collectFromSentencePiece(collector, model);
        collector.readFrom(addedJson);
        if (exists(addedJson)) collectAddedTokensJson(collector, addedJson, {});
    } else if (exists(vocabJson) && exists(folder / "merges.txt")) {
        collectFromVocabJson(collector, vocabJson);
        collectBesideVocabJson(collector, config, folder);
        return Vocabulary(collector.take());
    } else {
        throw InputError(
            "{}: no tokenizer: neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt is there; fetch it "
            "with the model",
            folder.string());
    }
    collector.readFrom(configFile);
    collectDecoder(collector, config, configFile);
    return Vocabulary(collector.take());
}

const Token* Vocabulary::find(std::string_view text) const {
    const auto found = byText_.find(text);
    return found == byText_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace aimerge
