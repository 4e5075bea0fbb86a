#include "aimerge/corpus/corpus.h"

#include "aimerge/core/error.h"
#include "corpus/zstd_file.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using TextUnit = Corpus::TextUnit;
using testing::ElementsAre;

TEST(Corpus, TakesATextFileAsOneDocumentWithItsLineBreaks) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "one\n\ntwo\r\n three");

    const Corpus corpus = Corpus::open(folder / "a.txt", {"text"}, TextUnit::WholeFile);

    ASSERT_EQ(corpus.documents(), 1u);
    EXPECT_EQ(corpus.bytesOf(0), 16u);
    EXPECT_THAT(corpus.read({0}), ElementsAre("one\n\ntwo\r\n three"));
}

TEST(Corpus, TakesTheLinesOfATextFile) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "one\n\ntwo\n");

    const Corpus corpus = Corpus::open(folder / "a.txt", {"text"}, TextUnit::Line);

    ASSERT_EQ(corpus.documents(), 3u);
    EXPECT_THAT(corpus.read({2, 0, 1}), ElementsAre("two", "one", ""));
}

TEST(Corpus, TakesTheTextOfEveryJsonLine) {
    const TempFolder folder;
    writeBytes(folder / "a.jsonl", "{\"body\": \"a\\nb\", \"text\": 1}\n\n{\"body\": \"\\u20ac\"}\n");

    const Corpus corpus = Corpus::open(folder / "a.jsonl", {"body"}, TextUnit::WholeFile);

    ASSERT_EQ(corpus.documents(), 2u);
    EXPECT_THAT(corpus.read({1, 0}), ElementsAre("\u20ac", "a\nb"));
}

TEST(Corpus, ReadsCompressedFilesLikePlainOnes) {
    const TempFolder folder;
    std::string lines;
    for (int line = 0; line < 200000; ++line) lines += fmt::format("line number {}\n", line);
    writeZstd(folder / "a.txt.zst", lines);
    writeBytes(folder / "two.jsonl.zst", zstdOf("{\"text\": \"first\"}\n") + zstdOf("{\"text\": \"second\"}\n"));

    const Corpus text = Corpus::open(folder / "a.txt.zst", {"text"}, TextUnit::Line);
    const Corpus json = Corpus::open(folder / "two.jsonl.zst", {"text"}, TextUnit::Line);

    ASSERT_EQ(text.documents(), 200000u);
    EXPECT_THAT(text.read({199999, 0, 77777}), ElementsAre("line number 199999", "line number 0", "line number 77777"));
    EXPECT_THAT(json.read({0, 1}), ElementsAre("first", "second"));
}

TEST(Corpus, ReadsABeginningThatEndsWithALineOrACharacter) {
    const TempFolder folder;
    writeBytes(folder / "lines.txt", "one\ntwo\nthree");
    writeBytes(folder / "euros.txt", "\u20ac\u20ac\u20ac");
    const Corpus lines = Corpus::open(folder / "lines.txt", {"text"}, TextUnit::WholeFile);
    const Corpus euros = Corpus::open(folder / "euros.txt", {"text"}, TextUnit::WholeFile);

    EXPECT_EQ(lines.readBeginning(0, 10), "one\ntwo\n");
    EXPECT_EQ(lines.readBeginning(0, 13), "one\ntwo\nthree");
    EXPECT_EQ(euros.readBeginning(0, 8), "\u20ac\u20ac");
}

TEST(Corpus, WithoutTextHasNoDocuments) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "");
    writeBytes(folder / "a.jsonl", "\n \n");
    writeZstd(folder / "a.txt.zst", "");

    EXPECT_EQ(Corpus::open(folder / "a.txt", {"text"}, TextUnit::WholeFile).documents(), 0u);
    EXPECT_EQ(Corpus::open(folder / "a.jsonl", {"text"}, TextUnit::WholeFile).documents(), 0u);
    EXPECT_EQ(Corpus::open(folder / "a.txt.zst", {"text"}, TextUnit::Line).documents(), 0u);
}

struct BadCorpus {
    const char* file;
    std::string bytes;
    const char* message;
};

class CorpusOfBadFile : public testing::TestWithParam<BadCorpus> {};

TEST_P(CorpusOfBadFile, IsAnInputErrorThatNamesFileAndLine) {
    const TempFolder folder;
    writeBytes(folder / GetParam().file, GetParam().bytes);
    try {
        Corpus::open(folder / GetParam().file, {"text"}, TextUnit::WholeFile);
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().file));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, CorpusOfBadFile,
    testing::Values(BadCorpus{"a.csv", "x", ".txt or .jsonl"},
                    BadCorpus{"a.txt", "fine\nb\xff\n", "a.txt:2: not valid UTF-8 at byte 2"},
                    BadCorpus{"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n", "a.jsonl:2: the line is not valid JSON"},
                    BadCorpus{"a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": \"a\", \"id\": 1}\n",
                              "a.jsonl:3: the line has no key 'text' (its keys: id, txt)"},
                    BadCorpus{"a.jsonl", "[1]\n", "a.jsonl:1: the line is not a JSON object"},
                    BadCorpus{"a.jsonl", "{\"text\": 3}\n", "a.jsonl:1: 'text' is number"},
                    BadCorpus{"a.jsonl", "{\"text\": \"\xff\"}\n", "a.jsonl:1"},
                    BadCorpus{"a.txt.zst", "this is no zstd data", "damaged zstd data"},
                    BadCorpus{"a.jsonl.zst", zstdOf("{\"text\": \"" + std::string(1000, 'x') + "\"}\n").substr(0, 20),
                              "ends in the middle of a frame"}));

TEST(Corpus, ThatDoesNotExistIsAnInputError) {
    EXPECT_THROW(Corpus::open("/nowhere/a.txt", {"text"}, TextUnit::WholeFile), InputError);
}

}  // namespace
}  // namespace aimerge
