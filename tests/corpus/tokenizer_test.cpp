#include "aimerge/corpus/tokenizer.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/vocabulary/vocabulary.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace aimerge {
namespace {

const std::filesystem::path kData = AIMERGE_TEST_DATA;
const std::filesystem::path kGoldenBase = kData / "goldens/family_f32/base";

/// Sets an environment variable for the length of a test.
class ScopedVariable {
public:
    ScopedVariable(const char* name, const std::string& value) : name_(name) {
        if (const char* before = std::getenv(name)) before_ = before;
        ::setenv(name, value.c_str(), 1);
    }
    ~ScopedVariable() {
        if (before_) {
            ::setenv(name_, before_->c_str(), 1);
        } else {
            ::unsetenv(name_);
        }
    }
    ScopedVariable(const ScopedVariable&) = delete;
    ScopedVariable& operator=(const ScopedVariable&) = delete;

private:
    const char* name_;
    std::optional<std::string> before_;
};

/// The golden base's tokenizer with tokenizer_config.json and, if given, tokenizer.json changed.
void writeTokenizer(const TempFolder& folder, const nlohmann::json& config,
                    const nlohmann::json& changes = nlohmann::json::object()) {
    auto tokenizer = nlohmann::ordered_json::parse(readTextFile(kGoldenBase / "tokenizer.json"));
    tokenizer.update(changes);
    writeBytes(folder / "tokenizer.json", tokenizer.dump());
    writeBytes(folder / "tokenizer_config.json", config.dump());
}

TokenIds encodeOne(const std::filesystem::path& folder, const std::string& text) {
    return openTokenizer(folder)->encode({text}).front();
}

TEST(HuggingFaceTokenizer, PutsTheSpecialTokensOfThePostProcessor) {
    // "!" is id 3 and "\"" id 4 of the golden vocabulary; its post-processor puts <s> (0) in front.
    const auto encoded = openTokenizer(kGoldenBase)->encode({"!", "", "\"!"});

    EXPECT_EQ(encoded, (std::vector<TokenIds>{{0, 3}, {0}, {0, 4, 3}}));
}

TEST(HuggingFaceTokenizer, PassesAnyText) {
    const auto tokenizer = openTokenizer(kGoldenBase);
    const auto separate = tokenizer->encode({"a\nb", std::string("a\0b", 3), "\u20ac\U0001F600", "!<s>!"});

    ASSERT_EQ(separate.size(), 4u);
    EXPECT_GE(separate[0].size(), 3u);
    EXPECT_GE(separate[1].size(), 3u);
    EXPECT_EQ(separate[3], (TokenIds{0, 3, 0, 3}));
    EXPECT_TRUE(tokenizer->encode({}).empty());
}

TEST(HuggingFaceTokenizer, TakesMoreThanASocketHolds) {
    std::string document;
    for (int word = 0; word < 20'000; ++word) document += "number ";
    const auto tokenizer = openTokenizer(kGoldenBase);
    const TokenIds alone = tokenizer->encode({document}).front();

    const auto encoded = tokenizer->encode(std::vector<std::string>(10, document));

    EXPECT_GE(alone.size(), 20'001u);
    EXPECT_EQ(encoded, std::vector<TokenIds>(10, alone));
}

struct FlagCase {
    const char* name;
    nlohmann::json config;
    TokenIds expected;  // of "!"
};

class ExplicitFlags : public testing::TestWithParam<FlagCase> {};

TEST_P(ExplicitFlags, WinOverThePostProcessor) {
    const TempFolder folder;
    nlohmann::json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
    config.update(GetParam().config);
    writeTokenizer(folder, config);

    EXPECT_EQ(encodeOne(folder.path(), "!"), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Flags, ExplicitFlags,
    testing::Values(FlagCase{"none", nlohmann::json::object(), {0, 3}},
                    FlagCase{"null", {{"add_bos_token", nullptr}}, {0, 3}},
                    FlagCase{"bos", {{"add_bos_token", true}}, {0, 3}}, FlagCase{"noBos", {{"add_bos_token", false}}, {3}},
                    FlagCase{"eosAlone", {{"add_eos_token", true}}, {0, 3, 1}},
                    FlagCase{"eosWithoutBos", {{"add_bos_token", false}, {"add_eos_token", true}}, {3, 1}},
                    FlagCase{"bosWithoutEos", {{"add_bos_token", true}, {"add_eos_token", false}}, {0, 3}}),
    [](const auto& info) { return info.param.name; });

TEST(HuggingFaceTokenizer, AddsBosWithoutAPostProcessorWhenAskedTo) {
    const TempFolder folder;
    writeTokenizer(folder, {{"bos_token", "<s>"}, {"add_bos_token", true}}, {{"post_processor", nullptr}});

    EXPECT_EQ(encodeOne(folder.path(), "!"), (TokenIds{0, 3}));
}

TEST(HuggingFaceTokenizer, IgnoresTruncationAndPaddingOfTheFile) {
    const TempFolder folder;
    const nlohmann::json truncation = {
        {"direction", "Right"}, {"max_length", 4}, {"strategy", "LongestFirst"}, {"stride", 0}};
    const nlohmann::json padding = {
        {"strategy", {{"Fixed", 9}}}, {"direction", "Right"}, {"pad_to_multiple_of", nullptr}, {"pad_id", 0},
        {"pad_type_id", 0},           {"pad_token", "<s>"}};
    writeTokenizer(folder, nlohmann::json::object(), {{"truncation", truncation}, {"padding", padding}});

    EXPECT_EQ(encodeOne(folder.path(), "!"), (TokenIds{0, 3}));
    EXPECT_EQ(encodeOne(folder.path(), "!!!!!!"), (TokenIds{0, 3, 3, 3, 3, 3, 3}));
}

TEST(HuggingFaceTokenizer, AddsTokensThatOnlyTheConfigLists) {
    const TempFolder folder;
    writeTokenizer(folder, {{"added_tokens_decoder", {{"320", {{"content", "<tool>"}, {"special", true}}}}}});

    EXPECT_EQ(encodeOne(folder.path(), "!<tool>!"), (TokenIds{0, 3, 320, 3}));
}

template <typename ErrorType>
std::string messageOf(const std::filesystem::path& folder) {
    try {
        openTokenizer(folder);
    } catch (const ErrorType& error) {
        return error.what();
    }
    return "no such error";
}

TEST(HuggingFaceTokenizer, OfADamagedFileIsAnInputError) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer.json", "{\"model\": 1}");
    EXPECT_THAT(messageOf<InputError>(folder.path()), testing::HasSubstr("tokenizer.json: "));

    const TempFolder badConfig;
    writeTokenizer(badConfig, {{"bos_token", "<none>"}, {"add_bos_token", true}});
    EXPECT_EQ(encodeOne(kGoldenBase, "!").size(), 2u);
    EXPECT_THAT(messageOf<InputError>(badConfig.path()),
                testing::HasSubstr("add_bos_token is true, but bos_token is '<none>'"));
}

TEST(HuggingFaceTokenizer, LeavesTheEnvironmentOfAnotherPythonAlone) {
    const TempFolder folder;
    writeBytes(folder / "tokenizers.py", "raise ImportError('of another Python')\n");
    const ScopedVariable path("PYTHONPATH", folder.path().string()), home("PYTHONHOME", "/nowhere");

    EXPECT_EQ(encodeOne(kGoldenBase, "!"), (TokenIds{0, 3}));
}

TEST(HuggingFaceTokenizer, SaysWhatToDoWithoutPython) {
    const ScopedVariable python("AIMERGE_PYTHON", "/nowhere/python");

    EXPECT_THAT(messageOf<RuntimeFault>(kGoldenBase),
                testing::AllOf(testing::HasSubstr("/nowhere/python"), testing::HasSubstr("./launch/setup.sh"),
                               testing::HasSubstr("AIMERGE_PYTHON")));
}

TEST(HuggingFaceTokenizer, SaysWhatToDoWithoutThePackage) {
    const TempFolder folder;
    // -S: without site-packages, so without any installed package.
    writeBytes(folder / "python", "#!/bin/sh\nexec " + environment::pythonInterpreter() + " -S -E \"$@\"\n");
    std::filesystem::permissions(folder / "python", std::filesystem::perms::owner_all);
    const ScopedVariable python("AIMERGE_PYTHON", (folder / "python").string());

    EXPECT_THAT(messageOf<RuntimeFault>(kGoldenBase), testing::AllOf(testing::HasSubstr("package `tokenizers` is missing"),
                                                                     testing::HasSubstr("./launch/setup.sh")));
}

TEST(HuggingFaceTokenizer, QuotesWhatADyingProcessSaid) {
    const TempFolder folder;
    writeBytes(folder / "python", "#!/bin/sh\necho first >&2\necho out of luck >&2\nexit 9\n");
    std::filesystem::permissions(folder / "python", std::filesystem::perms::owner_all);
    const ScopedVariable python("AIMERGE_PYTHON", (folder / "python").string());

    EXPECT_THAT(messageOf<RuntimeFault>(kGoldenBase), testing::HasSubstr("ended with exit code 9: out of luck;"));
}

TEST(HuggingFaceTokenizer, SaysWhereItsScriptShouldBe) {
    const ScopedVariable tools("AIMERGE_TOOLS_DIR", "/nowhere");

    EXPECT_THAT(messageOf<RuntimeFault>(kGoldenBase), testing::HasSubstr("AIMERGE_TOOLS_DIR"));
}

TEST(OpenTokenizer, OfAFolderWithoutOneIsAnInputError) {
    const TempFolder folder;

    EXPECT_THAT(messageOf<InputError>(folder.path()), testing::HasSubstr("neither tokenizer.json nor tokenizer.model"));
}

/// The SentencePiece model of tests/data: byte-pair encoding of a few words, with <unk> 0, <s> 1, </s> 2 and byte fallback.
class SentencePiece : public testing::Test {
protected:
    SentencePiece() {
        std::filesystem::copy(kData / "tokenizers/sentencepiece/tokenizer.model", folder_ / "tokenizer.model");
    }

    /// Ids of pieces given as texts.
    TokenIds ids(const std::vector<std::string>& pieces) const {
        const Vocabulary vocabulary = Vocabulary::read(folder_.path());
        TokenIds found;
        for (const std::string& piece : pieces) {
            const Token* token = vocabulary.find(piece);
            if (token == nullptr) throw std::out_of_range(piece);
            found.push_back(static_cast<std::int32_t>(token->id));
        }
        return found;
    }

    void configure(const nlohmann::json& config) { writeBytes(folder_ / "tokenizer_config.json", config.dump()); }

    TempFolder folder_;
};

TEST_F(SentencePiece, PutsBosAndTheDummyPrefix) {
    EXPECT_EQ(encodeOne(folder_.path(), "the cat sat"), ids({"<s>", "▁the", "▁cat", "▁sat"}));
    EXPECT_EQ(encodeOne(folder_.path(), ""), ids({"<s>"}));
}

TEST_F(SentencePiece, FallsBackToBytes) {
    EXPECT_EQ(encodeOne(folder_.path(), "\n"), ids({"<s>", "▁", "<0x0A>"}));
}

TEST_F(SentencePiece, FollowsTheConfigForBosAndEos) {
    configure({{"add_bos_token", false}, {"add_eos_token", true}});

    EXPECT_EQ(encodeOne(folder_.path(), "the hat"), ids({"▁the", "▁hat", "</s>"}));
}

TEST_F(SentencePiece, CutsOutAddedTokensAndEncodesThePiecesApart) {
    writeBytes(folder_ / "added_tokens.json", R"({"<tool>": 300, "<tool>x": 301})");

    // Every piece between added tokens gets the dummy prefix; the longer of two tokens that begin alike wins.
    EXPECT_EQ(encodeOne(folder_.path(), "the<tool>hat<tool>x</s>"),
              ids({"<s>", "▁the", "<tool>", "▁hat", "<tool>x", "</s>"}));
}

TEST_F(SentencePiece, StripsBesideAddedTokensThatAskForIt) {
    configure({{"added_tokens_decoder", {{"300", {{"content", "<tool>"}, {"lstrip", true}, {"rstrip", true}}}}}});

    EXPECT_EQ(encodeOne(folder_.path(), "the  <tool> \n hat"), ids({"<s>", "▁the", "<tool>", "▁hat"}));
}

TEST_F(SentencePiece, NeedsTheBosItIsAskedToAdd) {
    configure({{"bos_token", "<none>"}});

    EXPECT_THAT(messageOf<InputError>(folder_.path()), testing::HasSubstr("'<none>'"));
}

}  // namespace
}  // namespace aimerge
