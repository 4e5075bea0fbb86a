#include "corpus/corpus.h"

#include "aimerge/core/error.h"
#include "corpus/gzip_file.h"
#include "corpus/zstd_file.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using TextUnit = Corpus::TextUnit;
using testing::ElementsAre;

std::vector<std::string> textsOf(const Corpus& corpus, const std::vector<std::size_t>& documents) {
    std::vector<std::string> texts;
    for (Document& document : corpus.read(documents)) texts.push_back(std::move(document.text));
    return texts;
}

TEST(Corpus, TakesATextFileAsOneDocumentWithItsLineBreaks) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "one\n\ntwo\r\n three");

    const Corpus corpus = Corpus::open({folder / "a.txt"}, {"text"}, TextUnit::WholeFile);

    ASSERT_EQ(corpus.documents(), 1u);
    EXPECT_EQ(corpus.bytesOf(0), 16u);
    EXPECT_THAT(textsOf(corpus, {0}), ElementsAre("one\n\ntwo\r\n three"));
}

TEST(Corpus, TakesTheLinesOfATextFile) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "one\n\ntwo\n");

    const Corpus corpus = Corpus::open({folder / "a.txt"}, {"text"}, TextUnit::Line);

    ASSERT_EQ(corpus.documents(), 3u);
    EXPECT_THAT(textsOf(corpus, {2, 0, 1}), ElementsAre("two", "one", ""));
}

TEST(Corpus, TakesTheTextOfEveryJsonLine) {
    const TempFolder folder;
    writeBytes(folder / "a.jsonl", "{\"body\": \"a\\nb\", \"text\": 1}\n\n{\"body\": \"\\u20ac\"}\n");

    const Corpus corpus = Corpus::open({folder / "a.jsonl"}, {"body"}, TextUnit::WholeFile);

    ASSERT_EQ(corpus.documents(), 2u);
    EXPECT_THAT(textsOf(corpus, {1, 0}), ElementsAre("\u20ac", "a\nb"));
}

TEST(Corpus, ReadsCompressedFilesLikePlainOnes) {
    const TempFolder folder;
    std::string lines;
    for (int line = 0; line < 200000; ++line) lines += fmt::format("line number {}\n", line);
    writeZstd(folder / "a.txt.zst", lines);
    writeBytes(folder / "two.jsonl.zst", zstdOf("{\"text\": \"first\"}\n") + zstdOf("{\"text\": \"second\"}\n"));

    const Corpus text = Corpus::open({folder / "a.txt.zst"}, {"text"}, TextUnit::Line);
    const Corpus json = Corpus::open({folder / "two.jsonl.zst"}, {"text"}, TextUnit::Line);

    ASSERT_EQ(text.documents(), 200000u);
    EXPECT_THAT(textsOf(text, {199999, 0, 77777}), ElementsAre("line number 199999", "line number 0", "line number 77777"));
    EXPECT_THAT(textsOf(json, {0, 1}), ElementsAre("first", "second"));
}

TEST(Corpus, ReadsABeginningThatEndsWithALineOrACharacter) {
    const TempFolder folder;
    writeBytes(folder / "lines.txt", "one\ntwo\nthree");
    writeBytes(folder / "euros.txt", "\u20ac\u20ac\u20ac");
    const Corpus lines = Corpus::open({folder / "lines.txt"}, {"text"}, TextUnit::WholeFile);
    const Corpus euros = Corpus::open({folder / "euros.txt"}, {"text"}, TextUnit::WholeFile);

    EXPECT_EQ(lines.readBeginning(0, 10).document.text, "one\ntwo\n");
    EXPECT_EQ(lines.readBeginning(0, 13).document.text, "one\ntwo\nthree");
    EXPECT_EQ(euros.readBeginning(0, 8).document.text, "\u20ac\u20ac");
}

TEST(Corpus, ReadsTheElementsOfAJsonListAndTheLinesOfAJsonFile) {
    const TempFolder folder;
    const std::string first = R"({"text": "a \"]},\\", "n": [1, {"x": "["}]})", second = R"({"text": "b"})";
    writeBytes(folder / "list.json", "\xef\xbb\xbf\r\n [\n  " + first + " ,\n\n" + second + "\n]\n");
    writeBytes(folder / "lines.json", first + "\r\n\r\n" + second);
    writeBytes(folder / "none.json", "[ ]");

    const Corpus list = Corpus::open({folder / "list.json"}, {}, TextUnit::Line);
    const Corpus lines = Corpus::open({folder / "lines.json"}, {}, TextUnit::Line);

    EXPECT_THAT(textsOf(list, {1, 0}), ElementsAre("b", "a \"]},\\"));
    EXPECT_THAT(textsOf(lines, {1, 0}), ElementsAre("b", "a \"]},\\"));
    EXPECT_EQ(Corpus::open({folder / "none.json"}, {}, TextUnit::Line).documents(), 0u);
}

TEST(Corpus, ReadsGzipOfSeveralMembersLikePlainText) {
    const TempFolder folder;
    std::string lines;
    for (int line = 0; line < 100000; ++line) lines += fmt::format("line number {}\n", line);
    writeBytes(folder / "a.txt.gz", gzipOf(lines) + gzipOf("the end"));
    writeBytes(folder / "empty.txt.gz", gzipOf(""));

    const Corpus corpus = Corpus::open({folder / "a.txt.gz"}, {}, TextUnit::Line);

    ASSERT_EQ(corpus.documents(), 100001u);
    EXPECT_THAT(textsOf(corpus, {100000, 0, 77777}), ElementsAre("the end", "line number 0", "line number 77777"));
    EXPECT_EQ(Corpus::open({folder / "empty.txt.gz"}, {}, TextUnit::WholeFile).documents(), 0u);
}

TEST(Corpus, LeavesOutAByteOrderMarkAndTakesNumbersAsPythonWritesThem) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "\xef\xbb\xbfone\r\ntwo");
    writeBytes(folder / "empty.txt", "\xef\xbb\xbf");
    writeBytes(folder / "a.jsonl", "\xef\xbb\xbf{\"text\": \"one\", \"score\": NaN}\r\n");

    EXPECT_THAT(textsOf(Corpus::open({folder / "a.txt"}, {}, TextUnit::WholeFile), {0}), ElementsAre("one\r\ntwo"));
    EXPECT_EQ(Corpus::open({folder / "a.txt"}, {}, TextUnit::WholeFile).readBeginning(0, 5).document.text, "one\r\n");
    EXPECT_THAT(textsOf(Corpus::open({folder / "a.jsonl"}, {}, TextUnit::WholeFile), {0}), ElementsAre("one"));
    EXPECT_EQ(Corpus::open({folder / "empty.txt"}, {}, TextUnit::WholeFile).documents(), 0u);
}

TEST(Corpus, NumbersTheDocumentsOfSeveralFiles) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "one\ntwo\n");
    writeBytes(folder / "empty.txt", "");
    writeBytes(folder / "b.jsonl", "{\"text\": \"three\"}\n{\"text\": \"four\"}\n");
    writeBytes(folder / "c.jsonl", "{\"prompt\": \"fi\", \"completion\": \"ve\", \"id\": 3}\n");

    const Corpus corpus =
        Corpus::open({folder / "a.txt", folder / "empty.txt", folder / "b.jsonl", folder / "c.jsonl"}, {}, TextUnit::Line);

    ASSERT_EQ(corpus.documents(), 5u);
    EXPECT_THAT(textsOf(corpus, {4, 2, 0, 3, 1}), ElementsAre("five", "three", "one", "four", "two"));
}

TEST(Corpus, WithoutTextHasNoDocuments) {
    const TempFolder folder;
    writeBytes(folder / "a.txt", "");
    writeBytes(folder / "a.jsonl", "\n \n");
    writeZstd(folder / "a.txt.zst", "");

    EXPECT_EQ(Corpus::open({folder / "a.txt"}, {"text"}, TextUnit::WholeFile).documents(), 0u);
    EXPECT_EQ(Corpus::open({folder / "a.jsonl"}, {"text"}, TextUnit::WholeFile).documents(), 0u);
    EXPECT_EQ(Corpus::open({folder / "a.txt.zst"}, {"text"}, TextUnit::Line).documents(), 0u);
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
        Corpus::open({folder / GetParam().file}, {"text"}, TextUnit::WholeFile);
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().file));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, CorpusOfBadFile,
    testing::Values(BadCorpus{"a.csv", "x", "expected .txt, .jsonl"},
                    BadCorpus{"a.txt", "fine\nb\xff\n", "a.txt:2: not valid UTF-8 at byte 2"},
                    BadCorpus{"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n", "a.jsonl:2: not valid JSON"},
                    BadCorpus{"a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": \"a\", \"id\": 1}\n",
                              "a.jsonl:3: there is no key 'text' (the keys: id, txt)"},
                    BadCorpus{"a.jsonl", "[1]\n", "a.jsonl:1: not a JSON object"},
                    BadCorpus{"a.jsonl", "{\"text\": 3}\n", "a.jsonl:1: 'text' is number"},
                    BadCorpus{"a.jsonl", "{\"text\": \"\xff\"}\n", "a.jsonl:1"},
                    BadCorpus{"a.txt",
                              std::string("\xff\xfe"
                                          "a\0",
                                          4),
                              "the file is UTF-16"},
                    BadCorpus{"a.json", "[{\"text\": \"a\"},\n{\"text\": \n",
                              "not a JSON list: it ends in the middle at byte 27"},
                    BadCorpus{"a.json", "[{\"text\": \"a\"} {\"text\": \"b\"}]", "a.json: element 1: not valid JSON"},
                    BadCorpus{"a.json", "[{\"text\": \"a\"}] x", "something follows it at byte 17, behind 1 elements"},
                    BadCorpus{"a.json", "[{\"text\": \"a\"},]", "a.json: element 2: not valid JSON"},
                    BadCorpus{"a.json", "{\n  \"data\": []\n}", "a.json:1: not valid JSON"},
                    BadCorpus{"a.txt.gz", "this is no gzip data", "damaged gzip data"},
                    BadCorpus{"a.txt.gz", gzipOf(std::string(1000, 'x')).substr(0, 20), "the gzip data ends in the middle"},
                    BadCorpus{"a.txt.gz", gzipOf("text") + "more", "damaged gzip data"},
                    BadCorpus{"a.txt.zst", "this is no zstd data", "damaged zstd data"},
                    BadCorpus{"a.jsonl.zst", zstdOf("{\"text\": \"" + std::string(1000, 'x') + "\"}\n").substr(0, 20),
                              "ends in the middle of a frame"}));

TEST(Corpus, OfAnUnknownLayoutIsRefusedWithItsKeys) {
    const TempFolder folder;
    writeBytes(folder / "a.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");

    EXPECT_THAT(
        [&] { Corpus::open({folder / "a.jsonl"}, {}, TextUnit::Line); },
        testing::ThrowsMessage<InputError>(testing::AllOf(testing::HasSubstr("a.jsonl:1: its keys are answer, question"),
                                                          testing::HasSubstr("calibration.text_key"))));
}

TEST(Corpus, OfConversationsNeedsAChatTemplate) {
    const TempFolder folder;
    writeBytes(folder / "a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
    const Corpus corpus = Corpus::open({folder / "a.jsonl"}, {}, TextUnit::Line, {"models/base", ""});

    EXPECT_THAT([&] { corpus.read({0}); }, testing::ThrowsMessage<InputError>(testing::HasSubstr(
                                               "a.jsonl:1: a conversation, and models/base has no chat template")));
}

TEST(Corpus, ThatDoesNotExistIsAnInputError) {
    EXPECT_THROW(Corpus::open({std::filesystem::path("/nowhere/a.txt")}, {"text"}, TextUnit::WholeFile), InputError);
}

}  // namespace
}  // namespace aimerge
