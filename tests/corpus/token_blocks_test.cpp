#include "aimerge/corpus/token_blocks.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "corpus/token_cache.h"
#include "corpus/zstd_file.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace aimerge {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(AIMERGE_TEST_DATA) / "goldens";

/// A base model and an empty cache.
class LoadTokenBlocks : public testing::Test {
protected:
    LoadTokenBlocks() : base_(Checkpoint::open((kGoldens / "family_f32/base").string())) {
        ::setenv("AIMERGE_CACHE_DIR", (folder_ / "cache").c_str(), 1);
    }
    ~LoadTokenBlocks() override { ::unsetenv("AIMERGE_CACHE_DIR"); }

    CalibrationConfig configFor(const std::string& file, Packing packing, std::int64_t sequences,
                                std::int64_t length) const {
        CalibrationConfig config;
        config.corpus = {{(folder_ / file).string()}};
        config.packing = packing;
        config.sequences = sequences;
        config.sequenceLength = length;
        config.shuffle = false;
        return config;
    }

    std::size_t cacheEntries() const {
        const auto tokens = folder_ / "cache" / "tokens";
        if (!exists(tokens)) return 0;
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(tokens), {}));
    }

    TempFolder folder_;
    Checkpoint base_;
};

nlohmann::json goldenPipeline() {
    return nlohmann::json::parse(readTextFile(kGoldens / "calibration/pipeline.json"));
}

std::string asJsonLines(const nlohmann::json& lines) {
    std::string text;
    for (const auto& line : lines) text += nlohmann::json({{"text", line}}).dump() + "\n";
    return text;
}

void expectBlocks(const TokenBlocks& blocks, const nlohmann::json& golden) {
    ASSERT_EQ(blocks.blocks, static_cast<std::int64_t>(golden.size()));
    ASSERT_EQ(blocks.length, static_cast<std::int64_t>(golden[0].size()));
    auto id = blocks.ids.begin();
    for (const auto& block : golden)
        for (const auto& expected : block) ASSERT_EQ(*id++, expected.get<std::int32_t>());
}

TEST_F(LoadTokenBlocks, GivesTheBlocksOfTheReferenceCode) {
    const auto golden = goldenPipeline();
    writeBytes(folder_ / "lines.jsonl", asJsonLines(golden["lines"]));
    const auto config = configFor("lines.jsonl", Packing::Lines, golden["n_samples"], golden["block_size"]);

    expectBlocks(loadTokenBlocks(config, base_), golden["blocks"]);
}

TEST_F(LoadTokenBlocks, GivesTheSameBlocksFromTextAndFromCompressedFiles) {
    const auto golden = goldenPipeline();
    nlohmann::json lines = nlohmann::json::array();
    std::string text;
    for (std::string line : golden["lines"]) {
        std::replace(line.begin(), line.end(), '\n', ' ');
        lines.push_back(line);
        text += line + "\n";
    }
    writeBytes(folder_ / "lines.jsonl", asJsonLines(lines));
    writeBytes(folder_ / "lines.txt", text);
    writeZstd(folder_ / "lines.txt.zst", text);
    writeZstd(folder_ / "lines.jsonl.zst", asJsonLines(lines));
    const TokenBlocks expected = loadTokenBlocks(configFor("lines.jsonl", Packing::Lines, 40, 64), base_);

    for (const char* file : {"lines.txt", "lines.txt.zst", "lines.jsonl.zst"})
        EXPECT_EQ(loadTokenBlocks(configFor(file, Packing::Lines, 40, 64), base_), expected) << file;
}

TEST_F(LoadTokenBlocks, ShufflesByTheSeed) {
    writeBytes(folder_ / "lines.jsonl", asJsonLines(goldenPipeline()["lines"]));
    auto config = configFor("lines.jsonl", Packing::Stream, 8, 32);
    const TokenBlocks ordered = loadTokenBlocks(config, base_);
    config.shuffle = true;
    const TokenBlocks shuffled = loadTokenBlocks(config, base_);
    config.seed = 43;
    const TokenBlocks otherwise = loadTokenBlocks(config, base_);

    EXPECT_NE(shuffled, ordered);
    EXPECT_NE(shuffled, otherwise);
    EXPECT_EQ(cacheEntries(), 3u);
    std::filesystem::remove_all(folder_ / "cache");
    EXPECT_EQ(loadTokenBlocks(config, base_), otherwise);
}

TEST_F(LoadTokenBlocks, TakesUnchangedInputFromTheCacheAndEncodesChangedInputAgain) {
    writeBytes(folder_ / "a.txt", "!!!!");
    const auto config = configFor("a.txt", Packing::Stream, 1, 4);
    const TokenBlocks first = loadTokenBlocks(config, base_);
    EXPECT_EQ(first.ids, (std::vector<std::int32_t>{0, 3, 3, 3}));
    ::setenv("AIMERGE_PYTHON", "/nowhere/python", 1);

    EXPECT_EQ(loadTokenBlocks(config, base_), first);
    writeBytes(folder_ / "a.txt", "\"\"\"\"");
    EXPECT_THROW(loadTokenBlocks(config, base_), RuntimeFault);

    ::unsetenv("AIMERGE_PYTHON");
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{0, 4, 4, 4}));
}

TEST_F(LoadTokenBlocks, EncodesAgainWhenTheCacheEntryIsDamaged) {
    writeBytes(folder_ / "a.txt", "!!!!");
    const auto config = configFor("a.txt", Packing::Stream, 1, 4);
    const TokenBlocks first = loadTokenBlocks(config, base_);
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "cache" / "tokens"))
        writeBytes(entry.path(), "damaged");

    EXPECT_EQ(loadTokenBlocks(config, base_), first);
}

TEST_F(LoadTokenBlocks, TakesReadyIdsAsTheyAre) {
    SafetensorsBuilder()
        .add("input_ids", "I64", {2, 3}, bytesOf<std::int64_t>({319, 0, 5, 6, 7, 8}))
        .write(folder_ / "ids.safetensors");
    CalibrationConfig config;
    config.tokenIds = (folder_ / "ids.safetensors").string();
    const TokenBlocks all{.blocks = 2, .length = 3, .ids = {319, 0, 5, 6, 7, 8}};

    config.sequences = config.sequenceLength = 0;
    EXPECT_EQ(loadTokenBlocks(config, base_), all);
    config.sequenceLength = 3;
    for (const std::int64_t sequences : {2, 8}) {
        config.sequences = sequences;
        EXPECT_EQ(loadTokenBlocks(config, base_), all) << sequences;
    }
    config.sequences = 1;
    EXPECT_EQ(loadTokenBlocks(config, base_), (TokenBlocks{.blocks = 1, .length = 3, .ids = {319, 0, 5}}));
    EXPECT_EQ(cacheEntries(), 0u);

    config.sequenceLength = 4;
    EXPECT_THAT([&] { loadTokenBlocks(config, base_); },
                testing::ThrowsMessage<InputError>(
                    testing::HasSubstr("has sequences of 3 tokens, calibration.sequence_length is 4")));
}

TEST_F(LoadTokenBlocks, RefusesIdsBeyondTheVocabulary) {
    // The base's weights with the tokenizer of the model that has one token more.
    for (const char* file : {"config.json", "model.safetensors"})
        std::filesystem::copy(kGoldens / "family_f32/base" / file, folder_ / file);
    std::filesystem::copy(kGoldens / "family_f32/expert_c/tokenizer.json", folder_ / "tokenizer.json");
    writeBytes(folder_ / "a.txt", "!!!!<pad>!!");

    try {
        loadTokenBlocks(configFor("a.txt", Packing::Stream, 2, 4), Checkpoint::open(folder_.path().string()));
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("block 1, position 1"));
        EXPECT_THAT(error.what(), testing::HasSubstr("the id 320"));
    }
}

TEST_F(LoadTokenBlocks, UsesACorpusThatIsTooShortAsFarAsItGoes) {
    writeBytes(folder_ / "a.txt", "!!!!");
    const TokenBlocks blocks = loadTokenBlocks(configFor("a.txt", Packing::Stream, 2, 64), base_);
    EXPECT_EQ(blocks.blocks, 1);
    EXPECT_LT(blocks.length, 64);
    EXPECT_EQ(loadTokenBlocks(configFor("a.txt", Packing::Stream, 2, 64), base_), blocks);  // from the cache
    EXPECT_EQ(cacheEntries(), 1u);
}

TEST_F(LoadTokenBlocks, CountsTheTokensBeyondWholeSequences) {
    writeBytes(folder_ / "a.txt", "!!!!!!");
    const auto config = configFor("a.txt", Packing::Stream, 4, 3);
    EXPECT_EQ(loadTokenBlocks(config, base_),
              (TokenBlocks{.blocks = 2, .length = 3, .ids = {0, 3, 3, 3, 3, 3}, .unusedTokens = 1}));
    EXPECT_EQ(loadTokenBlocks(config, base_).unusedTokens, 1);  // from the cache
    EXPECT_EQ(loadTokenBlocks(configFor("a.txt", Packing::Stream, 2, 3), base_).unusedTokens, 0);
}

TEST_F(LoadTokenBlocks, TakesSourcesInTurnByTheirShares) {
    writeBytes(folder_ / "a.txt", std::string(40, '!'));
    writeBytes(folder_ / "b.txt", std::string(40, '"'));
    auto config = configFor("a.txt", Packing::Stream, 4, 3);
    config.corpus = {{(folder_ / "a.txt").string(), 3}, {(folder_ / "b.txt").string(), 1}};

    // Blocks of a.txt at 1/6, 3/6 and 5/6 of the way, that of b.txt at 1/2.
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{0, 3, 3, 3, 3, 3, 0, 4, 4, 3, 3, 3}));
}

TEST_F(LoadTokenBlocks, RefusesASourceThatCannotGiveItsShare) {
    writeBytes(folder_ / "a.txt", std::string(40, '!'));
    writeBytes(folder_ / "b.txt", "!");
    auto config = configFor("a.txt", Packing::Stream, 4, 3);
    config.corpus = {{(folder_ / "a.txt").string(), 1}, {(folder_ / "b.txt").string(), 1}};
    EXPECT_THAT([&] { loadTokenBlocks(config, base_); },
                testing::ThrowsMessage<InputError>(testing::HasSubstr("b.txt: has 2 tokens, fewer than one sequence of 3")));
    config.corpus[1].share = 0.01;
    EXPECT_THAT([&] { loadTokenBlocks(config, base_); },
                testing::ThrowsMessage<InputError>(testing::HasSubstr("b.txt: its share of 4 sequences is less than one")));
}

TEST_F(LoadTokenBlocks, AListOfFilesIsOneCorpusInItsOrder) {
    writeBytes(folder_ / "a1.txt", "!!");
    writeBytes(folder_ / "a2.txt", "\"\"");
    auto config = configFor("a[12].txt", Packing::Stream, 2, 3);
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{0, 3, 3, 0, 4, 4}));
    config.corpus = {{(folder_ / "a2.txt").string()}, {(folder_ / "a1.txt").string()}};
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{0, 4, 4, 0, 3, 3}));
    EXPECT_EQ(cacheEntries(), 2u);
}

TEST_F(LoadTokenBlocks, EncodesAgainWithAnotherChatTemplate) {
    writeBytes(folder_ / "a.jsonl",
               R"({"messages": [{"role": "user", "content": "!"}, {"role": "assistant", "content": "!!"}]})");
    auto config = configFor("a.jsonl", Packing::Stream, 1, 64);
    config.chatTemplate = "{{ bos_token }}{% for turn in messages %}{{ turn.content }}{% endfor %}";
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{0, 3, 3, 3}));
    config.chatTemplate = "{% for turn in messages %}{{ turn.content }}{% endfor %}{{ eos_token }}";
    EXPECT_EQ(loadTokenBlocks(config, base_).ids, (std::vector<std::int32_t>{3, 3, 3, 1}));
}

TEST_F(LoadTokenBlocks, JoinsTheTextsOfSeveralKeys) {
    writeBytes(folder_ / "a.jsonl", "{\"prompt\": \"!!\", \"target\": \"!!\"}\n");
    writeBytes(folder_ / "a.txt", "!!!!");
    CalibrationConfig config = configFor("a.jsonl", Packing::Stream, 1, 64);
    config.textKeys = {"prompt", "target"};
    EXPECT_EQ(loadTokenBlocks(config, base_), loadTokenBlocks(configFor("a.txt", Packing::Stream, 1, 64), base_));
}

}  // namespace
}  // namespace aimerge
