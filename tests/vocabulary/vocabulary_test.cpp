#include "aimerge/vocabulary/vocabulary.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

const std::filesystem::path kData = AIMERGE_TEST_DATA;

TEST(Vocabulary, ReadsBpeWithAddedTokens) {
    const Vocabulary vocabulary = Vocabulary::read(kData / "goldens/family_f32/expert_c");

    EXPECT_EQ(vocabulary.tokens().size(), 321u);
    ASSERT_NE(vocabulary.find("!"), nullptr);
    EXPECT_EQ(vocabulary.find("!")->id, 3);
    EXPECT_FALSE(vocabulary.find("!")->added);
    ASSERT_NE(vocabulary.find("<pad>"), nullptr);
    EXPECT_EQ(vocabulary.find("<pad>")->id, 320);
    EXPECT_TRUE(vocabulary.find("<pad>")->added);
    EXPECT_TRUE(vocabulary.find("<pad>")->special);
    EXPECT_TRUE(vocabulary.find("<s>")->added);
    EXPECT_EQ(vocabulary.find("<s>")->id, 0);
    EXPECT_EQ(vocabulary.find("no such token"), nullptr);
}

TEST(Vocabulary, ReadsUnigramListAndTokensOfTheConfig) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json",
               R"({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["\u2581a", -1.5]]}, "added_tokens": []})");
    writeBytes(
        folder / "tokenizer_config.json",
        R"({"added_tokens_decoder": {"2": {"content": "<x>", "special": true, "rstrip": true}, "0": {"content": "<unk>", "special": true}}})");

    const Vocabulary vocabulary = Vocabulary::read(folder.path());

    ASSERT_EQ(vocabulary.tokens().size(), 3u);
    EXPECT_EQ(vocabulary.find("\u2581a")->id, 1);
    EXPECT_EQ(vocabulary.find("<x>")->id, 2);
    EXPECT_TRUE(vocabulary.find("<x>")->stripsRight);
    EXPECT_TRUE(vocabulary.find("<unk>")->special);
    EXPECT_EQ(vocabulary.find("<unk>")->id, 0);
}

TEST(Vocabulary, ReadsSentencePieceWithAddedTokens) {
    const TempFolder folder;
    std::filesystem::copy(kData / "tokenizers/sentencepiece/tokenizer.model", folder / "tokenizer.model");
    writeBytes(folder / "added_tokens.json", R"({"<tool>": 300})");

    const Vocabulary vocabulary = Vocabulary::read(folder.path());

    EXPECT_EQ(vocabulary.find("<s>")->id, 1);
    EXPECT_TRUE(vocabulary.find("<s>")->special);
    EXPECT_FALSE(vocabulary.find("<s>")->added);
    EXPECT_EQ(vocabulary.find("<0x41>")->id, 3 + 0x41);
    ASSERT_NE(vocabulary.find("<tool>"), nullptr);
    EXPECT_EQ(vocabulary.find("<tool>")->id, 300);
    EXPECT_TRUE(vocabulary.find("<tool>")->added);
    EXPECT_FALSE(vocabulary.find("<tool>")->special);
}

TEST(Vocabulary, ReadsVocabJsonWithTheTokensThatOlderFilesName) {
    const TempFolder folder;
    writeBytes(folder / "vocab.json", R"({"a": 0, "b": 1, "<end>": 2})");
    writeBytes(folder / "merges.txt", "#version: 0.2\n");
    writeBytes(folder / "tokenizer_config.json",
               R"({"bos_token": "<replaced>", "image_token": "<image>", "add_bos_token": true})");
    writeBytes(
        folder / "special_tokens_map.json",
        R"({"bos_token": "<end>", "pad_token": {"content": "<pad>", "lstrip": true}, "additional_special_tokens": ["<user>"]})");
    writeBytes(folder / "added_tokens.json", R"({"<user>": 4, "plain": 3})");

    const Vocabulary vocabulary = Vocabulary::read(folder.path());

    const auto token = [&](const char* text) { return *vocabulary.find(text); };
    EXPECT_EQ(vocabulary.tokens().size(), 7u);
    EXPECT_FALSE(token("a").added);
    EXPECT_EQ(token("<end>").id, 2);
    EXPECT_TRUE(token("<end>").special);
    EXPECT_EQ(token("plain").id, 3);
    EXPECT_FALSE(token("plain").special);
    EXPECT_TRUE(token("plain").normalized);
    EXPECT_EQ(token("<user>").id, 4);
    EXPECT_TRUE(token("<user>").special);
    EXPECT_FALSE(token("<user>").normalized);
    EXPECT_EQ(token("<pad>").id, 5) << "the next id";
    EXPECT_TRUE(token("<pad>").stripsLeft);
    EXPECT_EQ(token("<image>").id, 6);
}

TEST(Vocabulary, ReadsVocabJsonWithADecoderBesideWhichOlderFilesCountForNothing) {
    const TempFolder folder;
    writeBytes(folder / "vocab.json", R"({"a": 0})");
    writeBytes(folder / "merges.txt", "#version: 0.2\n");
    writeBytes(folder / "tokenizer_config.json",
               R"({"added_tokens_decoder": {"1": {"content": "<x>"}}, "eos_token": "<x>"})");
    writeBytes(folder / "special_tokens_map.json", R"({"bos_token": "<y>"})");
    writeBytes(folder / "added_tokens.json", R"({"<z>": 2})");

    const Vocabulary vocabulary = Vocabulary::read(folder.path());

    EXPECT_EQ(vocabulary.tokens().size(), 2u);
    EXPECT_TRUE(vocabulary.find("<x>")->special);
}

TEST(Vocabulary, KeepsTheTrainedIdOfATokenThatIsAlsoAdded) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json",
               R"({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 7, "content": "b", "special": true}]})");

    const Vocabulary vocabulary = Vocabulary::read(folder.path());

    EXPECT_EQ(vocabulary.find("b")->id, 1);
    EXPECT_TRUE(vocabulary.find("b")->special);
}

struct BadTokenizer {
    const char* file;
    const char* text;
    const char* message;
};

class VocabularyOfBadFile : public testing::TestWithParam<BadTokenizer> {};

TEST_P(VocabularyOfBadFile, IsAnInputErrorThatNamesTheFault) {
    const TempFolder folder;
    if (std::string(GetParam().file) != "tokenizer.model")
        writeBytes(folder / "tokenizer.json", R"({"model": {"vocab": {"a": 0}}})");
    writeBytes(folder / GetParam().file, GetParam().text);
    try {
        Vocabulary::read(folder.path());
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().file));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, VocabularyOfBadFile,
    testing::Values(BadTokenizer{"tokenizer.json", "{\"model\":", "not valid JSON"},
                    BadTokenizer{"tokenizer.json", "{}", "'model' is missing"},
                    BadTokenizer{"tokenizer.json", "[]", "'model' is missing"},
                    BadTokenizer{"tokenizer.json", R"({"model": {}})", "model.vocab is missing"},
                    BadTokenizer{"tokenizer.json", R"({"model": {"vocab": {"a": -1}}})", "id of token 'a' is -1"},
                    BadTokenizer{"tokenizer.json", R"({"model": {"vocab": {"a": "0"}}})", "id of token 'a' is \"0\""},
                    BadTokenizer{"tokenizer.json", R"({"model": {"vocab": ["a"]}})", "expected [text, score]"},
                    BadTokenizer{"tokenizer.json", R"({"model": {"vocab": {}}, "added_tokens": [3]})",
                                 "an entry of 'added_tokens' is 3"},
                    BadTokenizer{"tokenizer.json", R"({"model": {"vocab": {}}, "added_tokens": [{"id": 3}]})",
                                 "no text under 'content'"},
                    BadTokenizer{"tokenizer.json",
                                 R"({"model": {"vocab": {}}, "added_tokens": [{"id": 3, "content": "x", "special": 1}]})",
                                 "expected true or false"},
                    BadTokenizer{"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
                                 "not a token id"},
                    BadTokenizer{"tokenizer.model", "version https://git-lfs", "not a SentencePiece model"}));

TEST(Vocabulary, OfAFolderWithoutTokenizerIsAnInputError) {
    const TempFolder folder;

    EXPECT_THROW(Vocabulary::read(folder.path()), InputError);
}

}  // namespace
}  // namespace aimerge
