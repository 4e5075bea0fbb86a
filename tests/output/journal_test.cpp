#include "aimerge/output/journal.h"

#include "aimerge/core/revision.h"
#include "support/log_capture.h"
#include "support/temp_folder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

FinishedTensor entry(const std::string& folder, const std::string& tensor, const std::string& contents) {
    return {folder, tensor, digestOf(contents)};
}

void append(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::app) << text;
}

TEST(Journal, IsReadBackFromAllRanks) {
    const TempFolder temp;
    Journal(temp.path(), 0).record(entry("", "b", "1"));
    Journal third(temp.path(), 3);
    third.record(entry("omega-0.4", "a", "2"));
    third.record(entry("", "a", "3"));

    EXPECT_THAT(readJournals(temp.path()),
                ElementsAre(entry("", "a", "3"), entry("", "b", "1"), entry("omega-0.4", "a", "2")));
}

TEST(Journal, SaysTheRevisionOfItsForm) {
    const TempFolder temp;
    Journal(temp.path(), 0).record(entry("omega-0.4", "a", "1"));

    const std::string text = readTextFile(temp.path() / "journal-0.jsonl");

    EXPECT_EQ(revision::kJournal, 1);
    EXPECT_EQ(text,
              "{\"journal\":1}\n{\"folder\":\"omega-0.4\",\"tensor\":\"a\",\"digest\":\"" + digestOf("1").hex() + "\"}\n")
        << "another form needs another revision::kJournal (core/revision.h), and a reader of this one; then change this "
           "test";
}

TEST(Journal, OfAnOlderVersionHasNoRevisionAndIsContinued) {
    const TempFolder temp;
    append(temp.path() / "journal-0.jsonl", journalText({entry("", "a", "1")}));

    Journal(temp.path(), 0).record(entry("", "b", "2"));

    EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "a", "1"), entry("", "b", "2")));
}

TEST(Journal, OfAnUnknownRevisionIsBegunAnew) {
    for (const char* first : {"{\"journal\":2}\n", "{\"journal\":-1}\n"}) {
        const TempFolder temp;
        append(temp.path() / "journal-0.jsonl", first + journalText({entry("", "a", "1")}));
        append(temp.path() / "journal-1.jsonl", journalText({entry("", "b", "2")}));
        {
            const LogCapture log;
            EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "b", "2")));
            EXPECT_THAT(log.text(), HasSubstr("journal-0.jsonl: a journal of revision"));
        }

        Journal(temp.path(), 0).record(entry("", "c", "3"));

        EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "b", "2"), entry("", "c", "3")));
    }
}

TEST(Journal, IgnoresATornLineAndGoesOnAfterIt) {
    const TempFolder temp;
    Journal(temp.path(), 0).record(entry("", "a", "1"));
    const std::string whole = journalText({entry("", "torn", "2")});
    append(temp.path() / "journal-0.jsonl", whole.substr(0, whole.size() / 2));
    EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "a", "1")));

    Journal(temp.path(), 0).record(entry("", "b", "3"));

    EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "a", "1"), entry("", "b", "3")));
}

TEST(Journal, TakesNoLineThatIsNotAWholeEntry) {
    const std::string digest = digestOf("x").hex();
    const std::string lines[] = {
        "\n",
        std::string(40, '\0') + "\n",
        "[1]\n",
        "{\"folder\":\"\",\"tensor\":\"a\"}\n",
        "{\"folder\":\"\",\"tensor\":7,\"digest\":\"" + digest + "\"}\n",
        "{\"folder\":\"\",\"tensor\":\"a\",\"digest\":\"" + digest.substr(1) + "\"}\n",
        "{\"folder\":\"\",\"tensor\":\"a\",\"digest\":\"" + digest + "\"}",  // no end of line
    };
    for (const std::string& line : lines) EXPECT_THAT(parseJournal(line), IsEmpty()) << line;
}

TEST(Journal, BelievesNeitherOfTwoDifferingClaims) {
    const TempFolder temp;
    Journal(temp.path(), 0).record(entry("", "a", "1"));
    Journal(temp.path(), 1).record(entry("", "a", "2"));
    Journal(temp.path(), 2).record(entry("", "b", "3"));
    Journal(temp.path(), 3).record(entry("", "b", "3"));

    EXPECT_THAT(readJournals(temp.path()), ElementsAre(entry("", "b", "3")));
}

TEST(Journal, KeepsLinesWholeWhenThreadsRecordTogether) {
    const TempFolder temp;
    Journal journal(temp.path(), 0);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            for (int i = 0; i < 50; ++i) journal.record(entry("", fmt::format("{}-{}", thread, i), "x"));
        });
    }
    for (std::thread& thread : threads) thread.join();

    EXPECT_EQ(readJournals(temp.path()).size(), 200u);
}

}  // namespace
}  // namespace aimerge
