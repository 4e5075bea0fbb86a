#include "aimerge/vocabulary/vocabulary.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <sentencepiece_processor.h>
#include <nlohmann/json.hpp>

#include <algorithm>
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

void collectAddedTokensJson(Collector& collector, const std::filesystem::path& path) {
    const json root = parseWithoutMerges(path);
    if (!root.is_object()) throw InputError("{}: expected an object of token: id", path.string());
    for (const auto& [text, id] : root.items())
        collector.addAdded({{"content", text}, {"normalized", true}}, tokenId(id, path, text));
}

void collectDecoder(Collector& collector, const std::filesystem::path& path) {
    const json root = parseWithoutMerges(path);
    if (!root.is_object()) throw InputError("{}: expected an object", path.string());
    const auto decoder = root.find("added_tokens_decoder");
    if (decoder == root.end()) return;
    if (!decoder->is_object()) throw InputError("{}: 'added_tokens_decoder' is not an object", path.string());
    for (const auto& [key, entry] : decoder->items()) {
        std::int32_t id = -1;
        const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc{} || stop != key.data() + key.size() || id < 0)
            throw InputError("{}: the key '{}' of added_tokens_decoder is not a token id", path.string(), key);
        collector.addAdded(entry, id);
    }
}

}  // namespace

Vocabulary::Vocabulary(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
    std::stable_sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.id < b.id; });
    byText_.reserve(tokens_.size());
    for (std::size_t index = 0; index < tokens_.size(); ++index) byText_.try_emplace(tokens_[index].text, index);
}

Vocabulary Vocabulary::read(const std::filesystem::path& folder) {
    const std::filesystem::path tokenizerJson = folder / "tokenizer.json", model = folder / "tokenizer.model";
    const std::filesystem::path addedJson = folder / "added_tokens.json", config = folder / "tokenizer_config.json";
    Collector collector(tokenizerJson);
    if (exists(tokenizerJson)) {
        collectFromTokenizerJson(collector, tokenizerJson);
    } else if (exists(model)) {
        collectFromSentencePiece(collector, model);
        collector.readFrom(addedJson);
        if (exists(addedJson)) collectAddedTokensJson(collector, addedJson);
    } else {
        throw InputError("{}: no tokenizer: neither tokenizer.json nor tokenizer.model is there; fetch it with the model",
                         folder.string());
    }
    collector.readFrom(config);
    if (exists(config)) collectDecoder(collector, config);
    return Vocabulary(collector.take());
}

const Token* Vocabulary::find(std::string_view text) const {
    const auto found = byText_.find(text);
    return found == byText_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace aimerge
