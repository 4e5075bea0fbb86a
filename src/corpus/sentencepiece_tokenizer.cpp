#include "corpus/sentencepiece_tokenizer.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace aimerge {
namespace {

using nlohmann::json;

json readConfig(const std::filesystem::path& path) {
    if (!exists(path)) return json::object();
    try {
        json config = json::parse(readTextFile(path));
        if (config.is_object()) return config;
    } catch (const json::exception& error) {
        throw InputError("{}: not valid JSON: {}", path.string(), error.what());
    }
    throw InputError("{}: expected a JSON object", path.string());
}

/// "bos_token" of tokenizer_config.json: a text, {"content": text}, or absent.
std::string tokenText(const json& config, const char* key, const char* absent) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) return absent;
    const json& value = found->is_object() ? found->value("content", json()) : *found;
    return value.is_string() ? value.get<std::string>() : std::string(absent);
}

bool flag(const json& config, const char* key, bool absent, const std::filesystem::path& path) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) return absent;
    if (!found->is_boolean()) throw InputError("{}: '{}' is {}, expected true or false", path.string(), key, found->dump());
    return found->get<bool>();
}

std::int32_t requiredId(const Vocabulary& vocabulary, const std::string& text, const char* key,
                        const std::filesystem::path& folder) {
    const Token* token = vocabulary.find(text);
    if (token == nullptr)
        throw InputError(
            "{}: {} asks for the token '{}', which tokenizer.model does not have; set it to false in "
            "tokenizer_config.json",
            folder.string(), key, text);
    return static_cast<std::int32_t>(token->id);
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& folder) : file_(folder / "tokenizer.model") {
    const auto status = processor_.LoadFromSerializedProto(readTextFile(file_));
    if (!status.ok()) throw InputError("{}: not a SentencePiece model: {}", file_.string(), status.ToString());
    const Vocabulary vocabulary = Vocabulary::read(folder);
    const std::filesystem::path configFile = folder / "tokenizer_config.json";
    const json config = readConfig(configFile);
    const std::string bos = tokenText(config, "bos_token", "<s>"), eos = tokenText(config, "eos_token", "</s>");
    const std::string unknown = tokenText(config, "unk_token", "<unk>");
    if (flag(config, "add_bos_token", true, configFile)) before_ = {requiredId(vocabulary, bos, "add_bos_token", folder)};
    if (flag(config, "add_eos_token", false, configFile)) after_ = {requiredId(vocabulary, eos, "add_eos_token", folder)};
    for (const Token& token : vocabulary.tokens())
        if (!token.text.empty() && (token.added || token.text == bos || token.text == eos || token.text == unknown))
            splitTokens_.push_back(token);
    std::stable_sort(splitTokens_.begin(), splitTokens_.end(),
                     [](const Token& a, const Token& b) { return a.text.size() > b.text.size(); });
}

std::vector<TokenIds> SentencePieceTokenizer::encodeWith(const std::vector<std::string>& documents, SpecialTokens special) {
    std::vector<TokenIds> encoded;
    encoded.reserve(documents.size());
    for (const std::string& document : documents) encoded.push_back(encodeOne(document, special));
    return encoded;
}

TokenIds SentencePieceTokenizer::encodeOne(std::string_view text, SpecialTokens special) const {
    TokenIds ids;
    if (special == SpecialTokens::Added) ids = before_;
    std::size_t pieceBegin = 0, position = 0;
    while (position < text.size()) {
        const Token* token = splitTokenAt(text.substr(position));
        if (token == nullptr) {
            ++position;
            continue;
        }
        const std::string_view piece = text.substr(pieceBegin, position - pieceBegin);
        encodePiece(token->stripsLeft ? stripWhiteSpaceRight(piece) : piece, ids);
        ids.push_back(static_cast<std::int32_t>(token->id));
        position += token->text.size();
        if (token->stripsRight) position = text.size() - stripWhiteSpaceLeft(text.substr(position)).size();
        pieceBegin = position;
    }
    encodePiece(text.substr(pieceBegin), ids);
    if (special == SpecialTokens::Added) ids.insert(ids.end(), after_.begin(), after_.end());
    return ids;
}

void SentencePieceTokenizer::encodePiece(std::string_view text, TokenIds& ids) const {
    if (text.empty()) return;
    std::vector<int> pieces;
    // Braces: the library's string_view is one of its own in older versions.
    const auto status = processor_.Encode({text.data(), text.size()}, &pieces);
    if (!status.ok())
        throw InputError("{}: cannot encode a text of {} bytes: {}", file_.string(), text.size(), status.ToString());
    ids.insert(ids.end(), pieces.begin(), pieces.end());
}

const Token* SentencePieceTokenizer::splitTokenAt(std::string_view text) const {
    for (const Token& token : splitTokens_)
        if (text.starts_with(token.text)) return &token;
    return nullptr;
}

}  // namespace aimerge
