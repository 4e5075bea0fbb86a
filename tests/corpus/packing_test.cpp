#include "corpus/packing.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace aimerge {
namespace {

/// Every byte is a token, in front of each document stands a 0.
class ByteTokenizer : public Tokenizer {
public:
    explicit ByteTokenizer(bool bos = true) : bos_(bos) {}

    std::vector<TokenIds> encodeWith(const std::vector<std::string>& documents, SpecialTokens) override {
        std::vector<TokenIds> encoded;
        for (const std::string& document : documents) {
            TokenIds& ids = encoded.emplace_back();
            if (bos_) ids.push_back(0);
            ids.insert(ids.end(), document.begin(), document.end());
            bytesSeen += document.size();
        }
        return encoded;
    }

    std::uint64_t bytesSeen = 0;

private:
    bool bos_;
};

PackingRequest request(const Corpus& corpus, std::int64_t sequences, std::int64_t length) {
    PackingRequest request{
        .corpus = corpus, .order = {}, .sequences = sequences, .sequenceLength = length, .corpusName = "the corpus"};
    request.order.resize(corpus.documents());
    std::iota(request.order.begin(), request.order.end(), std::size_t{0});
    return request;
}

class PackingTest : public testing::Test {
protected:
    Corpus corpusOf(const std::string& text, Corpus::TextUnit unit = Corpus::TextUnit::Line) {
        writeBytes(folder_ / "a.txt", text);
        return Corpus::open({folder_ / "a.txt"}, {"text"}, unit);
    }

private:
    TempFolder folder_;
};

using PackStream = PackingTest;
using PackLines = PackingTest;

TEST_F(PackStream, ConcatenatesInTheGivenOrderAndDropsTheRemainder) {
    const Corpus corpus = corpusOf("ab\nc\ndef\n");
    PackingRequest wanted = request(corpus, 3, 3);
    wanted.order = {2, 0, 1};
    ByteTokenizer tokenizer;

    const TokenBlocks blocks = packStream(wanted, tokenizer);

    EXPECT_EQ(blocks.blocks, 3);
    EXPECT_EQ(blocks.length, 3);
    EXPECT_EQ(blocks.ids, (TokenIds{0, 'd', 'e', 'f', 0, 'a', 'b', 0, 'c'}));
}

TEST_F(PackStream, StopsAfterTheSequencesAskedFor) {
    const Corpus corpus = corpusOf("abcdefgh");
    ByteTokenizer tokenizer;

    EXPECT_EQ(packStream(request(corpus, 1, 4), tokenizer).ids, (TokenIds{0, 'a', 'b', 'c'}));
}

TEST_F(PackStream, EncodesNoMoreOfALargeCorpusThanItTakes) {
    const Corpus lines = corpusOf([] {
        std::string text;
        for (int line = 0; line < 100000; ++line) text += std::string(99, 'a' + line % 26) + "\n";
        return text;
    }());
    ByteTokenizer tokenizer;

    const TokenBlocks blocks = packStream(request(lines, 4, 1000), tokenizer);

    EXPECT_EQ(blocks.ids[0], 0);
    EXPECT_EQ(blocks.ids[1], 'a');
    EXPECT_EQ(blocks.ids[101], 'b');
    EXPECT_LE(tokenizer.bytesSeen, 1u << 20);
}

TEST_F(PackStream, EncodesTheBeginningOfALargeDocumentOnly) {
    std::string text;
    for (int line = 0; line < 200000; ++line) text += fmt::format("line {:>94}\n", line);
    const Corpus corpus = corpusOf(text, Corpus::TextUnit::WholeFile);
    ByteTokenizer tokenizer;

    const TokenBlocks blocks = packStream(request(corpus, 2, 1000), tokenizer);

    EXPECT_EQ(blocks.ids[0], 0);
    EXPECT_EQ(std::string(blocks.ids.begin() + 1, blocks.ids.end()), text.substr(0, 1999));
    EXPECT_LE(tokenizer.bytesSeen, 4u << 20);
}

TEST_F(PackStream, ReadsOnInALargeDocumentUntilItHasEnoughTokens) {
    const std::string text(11u << 20, 'x');
    const Corpus corpus = corpusOf(text, Corpus::TextUnit::WholeFile);
    ByteTokenizer tokenizer;

    const TokenBlocks blocks = packStream(request(corpus, 11, 1 << 20), tokenizer);

    EXPECT_EQ(blocks.ids.size(), 11u << 20);
    EXPECT_EQ(blocks.ids.back(), 'x');
}

std::string messageOf(const std::function<void()>& act) {
    try {
        act();
    } catch (const InputError& error) {
        return error.what();
    }
    return "no InputError";
}

TEST_F(PackStream, TakesAsManyBlocksAsThereAre) {
    const Corpus corpus = corpusOf("abcdef");
    ByteTokenizer tokenizer;
    const TokenBlocks whole = packStream(request(corpus, 2, 3), tokenizer);
    const TokenBlocks available = packStream(request(corpus, 4, 3), tokenizer);  // 7 tokens
    EXPECT_EQ(available.ids, whole.ids);
    EXPECT_EQ(available.unusedTokens, 1);
    EXPECT_EQ(whole.unusedTokens, 0);
    EXPECT_EQ(whole.blocks, 2);
}

TEST_F(PackStream, OfLessThanABlockIsOneShorterBlock) {
    const Corpus corpus = corpusOf("abcdef");
    ByteTokenizer tokenizer;
    const TokenBlocks blocks = packStream(request(corpus, 4, 32), tokenizer);
    EXPECT_EQ(blocks.blocks, 1);
    EXPECT_EQ(blocks.length, 7);
    EXPECT_EQ(blocks.ids, packStream(request(corpus, 1, 7), tokenizer).ids);
}

TEST_F(PackStream, OfAnEmptyCorpusIsAnInputError) {
    const Corpus corpus = corpusOf("");
    ByteTokenizer tokenizer;

    EXPECT_THAT(messageOf([&] { packStream(request(corpus, 1, 1), tokenizer); }), testing::HasSubstr("the corpus is empty"));
    EXPECT_THAT(messageOf([&] { packLines(request(corpus, 1, 1), tokenizer); }), testing::HasSubstr("the corpus is empty"));
}

TEST_F(PackLines, StripsLinesSkipsLongOnesAndStopsAfterTheLinesAskedFor) {
    const Corpus corpus = corpusOf("  ab \ntoo long\n\ncd\nef\n");
    ByteTokenizer tokenizer;

    const TokenBlocks blocks = packLines(request(corpus, 3, 3), tokenizer);

    // "ab", the empty line (its 0 alone) and "cd": 7 tokens, of which the last is dropped.
    EXPECT_EQ(blocks.blocks, 2);
    EXPECT_EQ(blocks.ids, (TokenIds{0, 'a', 'b', 0, 0, 'c'}));
}

TEST_F(PackLines, SkipsLinesWithoutTokens) {
    const Corpus corpus = corpusOf("\n\nab\ncd");
    ByteTokenizer tokenizer(false);

    EXPECT_EQ(packLines(request(corpus, 2, 2), tokenizer).ids, (TokenIds{'a', 'b', 'c', 'd'}));
}

TEST_F(PackLines, SaysHowManyTokensThereAreWhenNoBlockFits) {
    const Corpus corpus = corpusOf("ab\nmuch too long\n");
    ByteTokenizer tokenizer;

    const std::string message = messageOf([&] { packLines(request(corpus, 40, 8), tokenizer); });

    for (const char* part : {"the corpus", "1 line", "3 tokens", "one block needs 8", "1 more were too long"})
        EXPECT_THAT(message, testing::HasSubstr(part));
}

}  // namespace
}  // namespace aimerge
