#include "config/vocabulary_config.h"

#include "aimerge/config/model_reference.h"

namespace aimerge {
namespace {

void setSource(VocabularyConfig& vocabulary, const std::string& source) {
    if (source == "base") {
        vocabulary.source = VocabularySource::Base;
    } else if (source == "union") {
        vocabulary.source = VocabularySource::Union;
    } else {
        vocabulary.source = VocabularySource::Model;
        vocabulary.model = source;
    }
}

/// {kind: zero} or {kind: model_token, model, token | token_id}
TokenOverride tokenFromMapping(const YamlNode& node, const std::string& name, UnreadKeys& unread) {
    using Kind = TokenOverride::Kind;
    const MappingReader reader(node, name, {"kind", "model", "token", "token_id"}, &unread);
    const auto kind = reader.choice<Kind>("kind", {{"zero", Kind::Zero}, {"model_token", Kind::ModelToken}});
    if (!kind) throw UsageError("{}: {} needs a 'kind': zero or model_token", node.mark.text(), name);
    TokenOverride token;
    token.kind = *kind;
    if (token.kind == Kind::Zero) {
        for (const char* key : {"model", "token", "token_id"})
            if (const YamlEntry* entry = reader.find(key))
                throw UsageError("{}: {} says nothing with 'kind: zero'", entry->mark.text(), reader.nameOf(key));
        return token;
    }
    token.model = reader.text("model").value_or("");
    if (token.model.empty()) throw UsageError("{}: {} needs a 'model'", node.mark.text(), name);
    token.token = reader.text("token").value_or("");
    token.tokenId = reader.wholeNumber("token_id", 0);
    if (token.token.empty() == !token.tokenId)
        throw UsageError("{}: {} needs either 'token' or 'token_id'", node.mark.text(), name);
    return token;
}

std::optional<TokenOverride> readToken(const YamlNode& node, const std::string& name, UnreadKeys& unread) {
    if (node.kind == YamlNode::Kind::Null) return std::nullopt;
    const MappingReader reader(node, name, {"source", "force"}, &unread);
    const YamlEntry* source = reader.find("source");
    const bool force = reader.boolean("force").value_or(false);
    if (source == nullptr) {
        if (force) throw UsageError("{}: {} has 'force' but no 'source' to take the row from", node.mark.text(), name);
        return std::nullopt;
    }
    TokenOverride token;
    if (source->value.kind == YamlNode::Kind::Mapping)
        token = tokenFromMapping(source->value, reader.nameOf("source"), unread);
    else
        token.model = *reader.text("source");
    token.force = force;
    return token;
}

void readTokenizer(const YamlEntry& entry, VocabularyConfig& vocabulary, UnreadKeys& unread) {
    const MappingReader reader(entry.value, "tokenizer", {"source", "tokens", "pad_to_multiple_of"}, &unread);
    const YamlEntry* source = reader.find("source");
    setSource(vocabulary, source == nullptr ? "union" : readModelReference(source->value, "tokenizer.source", &unread));
    vocabulary.padToMultipleOf = reader.wholeNumber("pad_to_multiple_of", 1).value_or(0);
    const YamlEntry* tokens = reader.find("tokens");
    if (tokens == nullptr) return;
    if (tokens->value.kind != YamlNode::Kind::Mapping)
        throw UsageError("{}: tokenizer.tokens must be a mapping from tokens to their source, found {}",
                         tokens->value.mark.text(), describe(tokens->value));
    for (const YamlEntry& token : tokens->value.entries)
        vocabulary.tokens.emplace_back(token.key,
                                       readToken(token.value, fmt::format("tokenizer.tokens.{}", token.key), unread));
}

}  // namespace

VocabularyConfig readVocabulary(const MappingReader& file, UnreadKeys& unread) {
    VocabularyConfig vocabulary;
    const YamlEntry* source = file.find("tokenizer_source");
    const YamlEntry* tokenizer = file.find("tokenizer");
    const YamlEntry* truncate = file.find("unsafe_truncate_embeddings");
    if (source != nullptr && tokenizer != nullptr)
        throw UsageError("{}: 'tokenizer' and 'tokenizer_source' exclude each other; write tokenizer: {{source: {}}}",
                         tokenizer->mark.text(), readModelReference(source->value, "tokenizer_source"));
    if (source != nullptr) {
        setSource(vocabulary, readModelReference(source->value, "tokenizer_source", &unread));
        vocabulary.mark = source->mark;
    } else if (tokenizer != nullptr) {
        readTokenizer(*tokenizer, vocabulary, unread);
        vocabulary.mark = tokenizer->mark;
    } else if (truncate != nullptr) {
        vocabulary.mark = truncate->mark;
    }
    vocabulary.unsafeTruncateEmbeddings = file.boolean("unsafe_truncate_embeddings").value_or(false);
    if (vocabulary.unsafeTruncateEmbeddings && vocabulary.source != VocabularySource::None)
        throw UsageError(
            "{}: 'unsafe_truncate_embeddings' cuts vocabularies without looking at the tokens; it excludes "
            "'tokenizer_source' and 'tokenizer'",
            truncate->mark.text());
    return vocabulary;
}

}  // namespace aimerge
