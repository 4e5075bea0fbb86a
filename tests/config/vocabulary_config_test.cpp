#include "aimerge/config/merge_config.h"

#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

VocabularyConfig vocabularyOf(const std::string& lines) {
    return parsed(kThreeLines + lines).vocabulary;
}

TEST(VocabularyConfig, TokenizerSourceIsBaseUnionOrAModel) {
    EXPECT_EQ(vocabularyOf("tokenizer_source: base\n").source, VocabularySource::Base);
    EXPECT_EQ(vocabularyOf("tokenizer_source: union\n").source, VocabularySource::Union);
    EXPECT_EQ(vocabularyOf("tokenizer_source: {model: {path: a b}}\n").model, "a b");
    EXPECT_EQ(vocabularyOf("tokenizer: {source: {model: a}}\n").model, "a");
    const VocabularyConfig vocabulary = vocabularyOf("tokenizer_source: ./a\n");
    EXPECT_EQ(vocabulary.source, VocabularySource::Model);
    EXPECT_EQ(vocabulary.model, "./a");
    EXPECT_EQ(vocabulary.mark.text(), "merge.yaml:4:1");
}

TEST(VocabularyConfig, TokenizerSectionIsAUnionUnlessItSaysOtherwise) {
    const VocabularyConfig vocabulary = vocabularyOf("tokenizer: {pad_to_multiple_of: 64}\n");

    EXPECT_EQ(vocabulary.source, VocabularySource::Union);
    EXPECT_EQ(vocabulary.padToMultipleOf, 64);
    EXPECT_EQ(vocabularyOf("tokenizer: {source: base}\n").source, VocabularySource::Base);
}

TEST(VocabularyConfig, ReadsTokensInFileOrder) {
    const VocabularyConfig vocabulary = vocabularyOf(R"(tokenizer:
  tokens:
    <z>: {source: ./a, force: true}
    <y>: {source: {kind: zero}}
    <x>: {source: {kind: model_token, model: ./b, token: the}}
    <w>: {source: {kind: model_token, model: ./b, token_id: 0}}
    <v>: {}
    <u>:
)");

    ASSERT_EQ(vocabulary.tokens.size(), 6u);
    EXPECT_EQ(vocabulary.tokens[0].first, "<z>");
    EXPECT_EQ(vocabulary.tokens[0].second->kind, TokenOverride::Kind::Model);
    EXPECT_EQ(vocabulary.tokens[0].second->model, "./a");
    EXPECT_TRUE(vocabulary.tokens[0].second->force);
    EXPECT_EQ(vocabulary.tokens[1].second->kind, TokenOverride::Kind::Zero);
    EXPECT_FALSE(vocabulary.tokens[1].second->force);
    EXPECT_EQ(vocabulary.tokens[2].second->kind, TokenOverride::Kind::ModelToken);
    EXPECT_EQ(vocabulary.tokens[2].second->model, "./b");
    EXPECT_EQ(vocabulary.tokens[2].second->token, "the");
    EXPECT_EQ(vocabulary.tokens[3].second->tokenId, 0);
    EXPECT_FALSE(vocabulary.tokens[4].second.has_value());
    EXPECT_FALSE(vocabulary.tokens[5].second.has_value());
}

TEST(VocabularyConfig, TruncationIsOffUnlessAsked) {
    EXPECT_FALSE(vocabularyOf("").unsafeTruncateEmbeddings);
    EXPECT_TRUE(vocabularyOf("unsafe_truncate_embeddings: true\n").unsafeTruncateEmbeddings);
}

}  // namespace
}  // namespace aimerge
