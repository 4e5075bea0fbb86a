#include "aimerge/vocabulary/tokenizer_files.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

const char* const kTokenizerJson =
    R"({"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 4, "content": "<gone>", "special": true}],
        "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]}})";

Token newToken(const std::string& text, std::int64_t id, bool special) {
    Token token;
    token.text = text;
    token.id = id;
    token.added = true;
    token.special = special;
    return token;
}

const TokenizerFile& fileNamed(const std::vector<TokenizerFile>& files, const std::string& name) {
    for (const TokenizerFile& file : files)
        if (file.name == name) return file;
    throw std::out_of_range("no file " + name);
}

TEST(TokenizerFiles, AreCopiesWhenNothingChanges) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json", kTokenizerJson);
    writeBytes(folder / "merges.txt", "a b");
    writeBytes(folder / "additional_chat_templates/rag.jinja", "{{rag}}");
    writeBytes(folder / "additional_chat_templates/notes.txt", "not a template");
    writeBytes(folder / "model.safetensors", "not a tokenizer file");

    const auto files = outputTokenizerFiles(folder.path(), OutputTokenizer{});

    ASSERT_EQ(files.size(), 3u);
    EXPECT_EQ(fileNamed(files, "additional_chat_templates/rag.jinja").copyOf,
              folder / "additional_chat_templates/rag.jinja");
    EXPECT_EQ(fileNamed(files, "tokenizer.json").copyOf, folder / "tokenizer.json");
    EXPECT_EQ(fileNamed(files, "merges.txt").copyOf, folder / "merges.txt");
}

TEST(TokenizerFiles, LoseTokensWithoutRowAndGainNewOnes) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json", kTokenizerJson);
    writeBytes(folder / "tokenizer_config.json",
               R"({"bos_token": "<s>", "added_tokens_decoder": {"0": {"content": "<s>"}, "4": {"content": "<gone>"}}})");
    writeBytes(folder / "special_tokens_map.json", "{}");
    const OutputTokenizer output{
        .input = 0, .dropFrom = 4, .newTokens = {newToken("<new>", 4, true), newToken("word", 5, false)}};

    const auto files = outputTokenizerFiles(folder.path(), output);

    const auto tokenizer = nlohmann::json::parse(fileNamed(files, "tokenizer.json").text);
    ASSERT_EQ(tokenizer["added_tokens"].size(), 3u);
    EXPECT_EQ(tokenizer["added_tokens"][0]["content"], "<s>");
    EXPECT_EQ(tokenizer["added_tokens"][1]["content"], "<new>");
    EXPECT_EQ(tokenizer["added_tokens"][1]["id"], 4);
    EXPECT_EQ(tokenizer["added_tokens"][1]["special"], true);
    EXPECT_EQ(tokenizer["added_tokens"][2]["special"], false);
    EXPECT_EQ(tokenizer["model"]["merges"].size(), 1u);
    const auto config = nlohmann::json::parse(fileNamed(files, "tokenizer_config.json").text);
    EXPECT_EQ(config["added_tokens_decoder"].size(), 3u);
    EXPECT_EQ(config["added_tokens_decoder"]["4"]["content"], "<new>");
    EXPECT_EQ(config["added_tokens_decoder"]["5"]["content"], "word");
    EXPECT_EQ(config["bos_token"], "<s>");
    EXPECT_EQ(fileNamed(files, "special_tokens_map.json").copyOf, folder / "special_tokens_map.json");
}

TEST(TokenizerFiles, MarkTrainedTokensAndTakeWhatModelsHaveAddedBeforeOrdinaryTokens) {
    const TempFolder folder;
    writeBytes(
        folder / "tokenizer.json",
        R"({"added_tokens": [{"id": 3, "content": "<tool>", "normalized": true}], "model": {"vocab": {"a": 0, "b": 1, "ab": 2}}})");
    writeBytes(folder / "tokenizer_config.json",
               R"({"added_tokens_decoder": {"3": {"content": "<tool>", "normalized": true}}})");
    Token ordinary = newToken("(<", 4, false);
    ordinary.normalized = true;
    const OutputTokenizer output{
        .input = 0, .dropFrom = {}, .newTokens = {ordinary}, .marked = {newToken("ab", 2, true)}, .ownTokensFirst = true};

    const auto files = outputTokenizerFiles(folder.path(), output);

    const auto added = nlohmann::json::parse(fileNamed(files, "tokenizer.json").text)["added_tokens"];
    ASSERT_EQ(added.size(), 3u);
    EXPECT_EQ(added[0]["normalized"], false);
    EXPECT_EQ(added[1]["id"], 2);
    EXPECT_EQ(added[1]["normalized"], false);
    EXPECT_EQ(added[2]["id"], 4);
    EXPECT_EQ(added[2]["normalized"], true);
    const auto decoder = nlohmann::json::parse(fileNamed(files, "tokenizer_config.json").text)["added_tokens_decoder"];
    EXPECT_EQ(decoder["3"]["normalized"], false);
    EXPECT_EQ(decoder["2"]["special"], true);
    EXPECT_EQ(decoder["4"]["normalized"], true);
}

TEST(TokenizerFiles, BesideVocabJsonGetTheDecoderWithWhatTheOlderFilesSay) {
    const TempFolder folder;
    writeBytes(folder / "vocab.json", R"({"a": 0, "<end>": 1})");
    writeBytes(folder / "merges.txt", "#version: 0.2\n");
    writeBytes(folder / "special_tokens_map.json",
               R"({"eos_token": {"content": "<end>", "lstrip": true}, "additional_special_tokens": ["<a>", "<b>"]})");
    writeBytes(folder / "added_tokens.json", R"({"<a>": 2, "plain": 3, "<b>": 4})");
    const OutputTokenizer output{.input = 0, .dropFrom = 4, .newTokens = {newToken("<new>", 4, true)}};

    const auto files = outputTokenizerFiles(folder.path(), output);

    const auto config = nlohmann::json::parse(fileNamed(files, "tokenizer_config.json").text);
    EXPECT_EQ(config["eos_token"], "<end>");
    EXPECT_EQ(config["additional_special_tokens"], nlohmann::json({"<a>", "<b>"}));
    const auto& decoder = config["added_tokens_decoder"];
    ASSERT_EQ(decoder.size(), 4u);
    EXPECT_EQ(decoder["1"]["content"], "<end>");
    EXPECT_EQ(decoder["1"]["lstrip"], true);
    EXPECT_EQ(decoder["2"]["special"], true);
    EXPECT_EQ(decoder["3"]["special"], false);
    EXPECT_EQ(decoder["3"]["normalized"], true);
    EXPECT_EQ(decoder["4"]["content"], "<new>");
    EXPECT_EQ(nlohmann::json::parse(fileNamed(files, "added_tokens.json").text),
              nlohmann::json({{"<a>", 2}, {"plain", 3}, {"<new>", 4}}));
    EXPECT_EQ(fileNamed(files, "vocab.json").copyOf, folder / "vocab.json");

    const OutputTokenizer cut{.input = 0, .dropFrom = 1, .newTokens = {newToken("<new>", 1, true)}};
    EXPECT_THROW(outputTokenizerFiles(folder.path(), cut), InputError);
}

TEST(TokenizerFiles, OfSentencePieceAloneGetAddedTokensJson) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.model", "binary");
    const OutputTokenizer output{.input = 0, .dropFrom = {}, .newTokens = {newToken("<new>", 300, true)}};

    const auto files = outputTokenizerFiles(folder.path(), output);

    ASSERT_EQ(files.size(), 2u);
    EXPECT_EQ(fileNamed(files, "tokenizer.model").copyOf, folder / "tokenizer.model");
    EXPECT_EQ(nlohmann::json::parse(fileNamed(files, "added_tokens.json").text), nlohmann::json({{"<new>", 300}}));
}

TEST(TokenizerFiles, CannotGiveAnIdThatATrainedTokenHas) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json", kTokenizerJson);
    const OutputTokenizer output{.input = 0, .dropFrom = 3, .newTokens = {newToken("<new>", 3, true)}};
    try {
        outputTokenizerFiles(folder.path(), output);
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("trained vocabulary reaches id 3"));
    }
}

}  // namespace
}  // namespace aimerge
