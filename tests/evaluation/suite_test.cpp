#include "aimerge/evaluation/suite.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Suite : public testing::Test {
protected:
    std::filesystem::path write(const std::string& text, const std::string& name = "s.jsonl") {
        writeTextFile(folder_.path() / name, text);
        return folder_.path() / name;
    }

private:
    TempFolder folder_;
};

TEST_F(Suite, ReadsTheThreeKindsOfItems) {
    const std::vector<SuiteItem> items = readSuite(write(R"({"task": "a", "prompt": "1 + 1 =", "target": " 2"}

{"task": "b", "prompt": "p", "choices": ["x", "y"], "answer": 1}
{"task": "c", "text": "one two"}
)"));

    ASSERT_EQ(items.size(), 3u);
    EXPECT_EQ(items[0].kind, ItemKind::Continuation);
    EXPECT_EQ(items[0].context.text, "1 + 1 =");
    EXPECT_EQ(items[0].continuations.at(0).text, " 2");
    EXPECT_EQ(items[1].kind, ItemKind::Choices);
    EXPECT_EQ(items[1].continuations.at(1).text, "y");
    EXPECT_EQ(items[1].answer, 1u);
    EXPECT_THAT(items[1].place, testing::EndsWith("s.jsonl:3"));
    EXPECT_EQ(items[2].kind, ItemKind::Text);
    EXPECT_EQ(items[2].continuations.at(0).text, "one two");
}

TEST_F(Suite, TakesTokenIdsInPlaceOfText) {
    const std::vector<SuiteItem> items = readSuite(write(R"({"task": "a", "context_ids": [1, 2], "continuation_ids": [3]}
{"task": "b", "context_ids": [1], "continuation_ids": [[2], [3, 4]], "answer": 0}
)"));

    EXPECT_TRUE(items[0].context.isEncoded);
    EXPECT_THAT(items[0].context.ids, ElementsAre(1, 2));
    EXPECT_THAT(items[1].continuations.at(1).ids, ElementsAre(3, 4));
}

TEST_F(Suite, ChoicesMayHavePromptsAndLengthsOfTheirOwn) {
    const std::vector<SuiteItem> items =
        readSuite(write(R"({"task": "a", "prompts": ["p", "q"], "choices": ["x", "x"], "lengths": [1, 2.5], "answer": 1})"));

    EXPECT_EQ(items[0].contextOf(0).text, "p");
    EXPECT_EQ(items[0].contextOf(1).text, "q");
    EXPECT_THAT(items[0].lengths, ElementsAre(1, 2.5));
}

TEST_F(Suite, MayBeAJsonListOrAFolderOfFiles) {
    const std::string item = R"({"task": "a", "prompt": "p", "target": "x"})";
    const std::string list = write("[" + item + ",\n" + item + "]", "s.json").string();
    write(item, "t.jsonl");

    EXPECT_EQ(readSuite(list).size(), 2u);
    EXPECT_EQ(readSuite(list).back().place, list + ": element 2");
    EXPECT_EQ(readSuites({std::filesystem::path(list).parent_path().string()}).size(), 3u);
}

TEST_F(Suite, ATextFileIsOneText) {
    const std::vector<SuiteItem> items = readSuite(write("all of it\n", "general.txt"));

    ASSERT_EQ(items.size(), 1u);
    EXPECT_EQ(items[0].task, "general");
    EXPECT_EQ(items[0].continuations.at(0).text, "all of it\n");
}

TEST_F(Suite, NamesThePlaceOfWhatIsWrong) {
    const std::string good = R"({"task": "t", "prompt": "p", "target": "x"})";
    for (const auto& [line, message] : std::vector<std::pair<std::string, std::string>>{
             {"{", "s.jsonl:2: not JSON"},
             {"[1]", "s.jsonl:2: expected an object"},
             {R"({"prompt": "p", "target": "x"})", "s.jsonl:2: has no key \"task\""},
             {R"({"task": "t", "target": "x"})", "s.jsonl:2: has no key \"prompt\""},
             {R"({"task": "t", "prompt": 1, "target": "x"})", "s.jsonl:2: prompt is 1, expected a string"},
             {R"({"task": "t", "prompt": "p", "target": ""})", "s.jsonl:2: a target is empty"},
             {R"({"task": "t", "prompt": "p", "target": "x", "shots": 5})", "s.jsonl:2: unknown key \"shots\""},
             {R"({"task": "u", "prompt": "p", "choices": ["x"], "answer": 0})", "expected a list of at least two"},
             {R"({"task": "u", "prompt": "p", "choices": ["x", "y"], "answer": 2})", "the number of a choice, 0 to 1"},
             {R"({"task": "u", "prompt": "p", "choices": ["x", "y"], "answer": -1})", "the number of a choice, 0 to 1"},
             {R"({"task": "u", "prompt": "p", "choices": ["x", "y"]})", "s.jsonl:2: has no key \"answer\""},
             {R"({"task": "u", "prompts": ["p"], "choices": ["x", "y"], "answer": 0})",
              "expected a list of 2, one per choice"},
             {R"({"task": "u", "prompt": "p", "prompts": ["p", "q"], "choices": ["x", "y"], "answer": 0})",
              "unknown key \"prompt\""},
             {R"({"task": "u", "prompt": "p", "lengths": [1, 0], "choices": ["x", "y"], "answer": 0})",
              "lengths: 0 is no number above 0"},
             {R"({"task": "u", "context_ids": [1.5], "continuation_ids": [1]})", "context_ids: 1.5 is no token id"},
             {R"({"task": "u", "prompt": "p", "context_ids": [1], "target": "x"})", "has both \"prompt\" and"},
             {R"({"task": "t", "text": "x"})", "task t has items of another kind at"}}) {
        const std::string text = good + "\n" + line + "\n";
        EXPECT_THAT([&] { readSuite(write(text)); }, ThrowsMessage<InputError>(HasSubstr(message))) << line;
    }
    EXPECT_THAT([&] { readSuite(write("\n")); }, ThrowsMessage<InputError>(HasSubstr("has no items")));
    EXPECT_THAT([&] { readSuite(write("x", "s.csv")); },
                ThrowsMessage<InputError>(HasSubstr("a file of this name is not known as text")));
}

TEST_F(Suite, ATaskStandsInOneFile) {
    const std::string first = write("text", "t.txt").string(), second = write(R"({"task": "t", "text": "x"})").string();

    EXPECT_EQ(readSuites({first}).size(), 1u);
    EXPECT_THAT([&] { readSuites({first, second}); }, ThrowsMessage<InputError>(HasSubstr("task t is also in")));
}

}  // namespace
}  // namespace aimerge
