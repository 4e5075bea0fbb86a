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
    writeBytes(folder / "model.safetensors", "not a tokenizer file");

    const auto files = outputTokenizerFiles(folder.path(), OutputTokenizer{});

    ASSERT_EQ(files.size(), 2u);
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
