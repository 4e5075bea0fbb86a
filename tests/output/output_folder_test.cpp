#include "aimerge/output/output_folder.h"

#include "aimerge/core/error.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

void writeFile(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
}

std::vector<std::string> namesIn(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// The message of the UsageError that acquire() throws; empty when it throws none.
std::string refusal(const OutputRequest& request) {
    try {
        OutputFolder::acquire(request);
        return "";
    } catch (const UsageError& error) {
        return error.what();
    }
}

TEST(OutputFolder, AppearsWholeWhenPublished) {
    const TempFolder temp;
    const fs::path out = temp.path() / "deep" / "out";
    OutputFolder folder = OutputFolder::acquire({out, {}, ExistingOutput::Refuse, "aimerge merge"});
    EXPECT_EQ(folder.prepare("job"), Preparation::Fresh);
    writeFile(folder.buildFolder() / "omega-0.4" / "config.json", "{}");
    EXPECT_FALSE(fs::exists(out));

    folder.publish();

    EXPECT_EQ(readTextFile(out / "omega-0.4" / "config.json"), "{}");
    EXPECT_EQ(namesIn(out), std::vector<std::string>{"omega-0.4"});
    EXPECT_FALSE(fs::exists(folder.partialFolder()));
}

TEST(OutputFolder, LeavesNothingWhenNotPrepared) {
    const TempFolder temp;
    { const OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, "aimerge"}); }

    EXPECT_TRUE(fs::is_empty(temp.path()));
}

TEST(OutputFolder, IsRemovedWhenDiscarded) {
    const TempFolder temp;
    {
        OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, "aimerge"});
        folder.prepare("job");
        folder.discard();
    }

    EXPECT_TRUE(fs::is_empty(temp.path()));
}

TEST(OutputFolder, RefusesAnExistingFolderUnlessItMayBeReplaced) {
    const TempFolder temp;
    writeFile(temp.path() / "out" / "keep", "x");

    EXPECT_THAT(refusal({temp.path() / "out", {}, ExistingOutput::Refuse, ""}),
                AllOf(HasSubstr("/out: exists"), HasSubstr("--overwrite")));
    EXPECT_EQ(refusal({temp.path() / "out", {}, ExistingOutput::Replace, ""}), "");
    EXPECT_TRUE(fs::exists(temp.path() / "out" / "keep"));
}

TEST(OutputFolder, RefusesPlacesThatWouldHarmTheInputs) {
    const TempFolder temp;
    const fs::path model = temp.path() / "models" / "base";
    writeFile(model / "config.json", "{}");
    fs::create_directory_symlink(model, temp.path() / "link");
    fs::create_directory_symlink(temp.path() / "nowhere", temp.path() / "dangling");
    writeFile(temp.path() / "file", "");

    struct Row {
        fs::path target;
        std::string message;
    };
    const Row rows[] = {
        {model, "lies inside the input"},
        {model / "", "lies inside the input"},
        {model / "out", "lies inside the input"},
        {temp.path() / "link" / "out", "lies inside the input"},
        {temp.path() / "models" / "other" / ".." / "base" / "out", "lies inside the input"},
        {temp.path() / "models", "would replace the input"},
        {temp.path() / "dangling", "link to something that does not exist"},
        {temp.path() / "file", "is not a folder"},
        {"", "--out is empty"},
        {".", "current folder"},
        {"/", "current folder"},
    };
    for (const Row& row : rows) {
        EXPECT_THAT(refusal({row.target, {model}, ExistingOutput::Replace, ""}), HasSubstr(row.message)) << row.target;
    }
    EXPECT_EQ(refusal({temp.path() / "models" / "base-merged", {model}, ExistingOutput::Replace, ""}), "");
}

TEST(OutputFolder, RemovesItsIntermediatesWhenPublished) {
    const TempFolder temp;
    OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, "aimerge"});
    folder.prepareIntermediates();
    writeFile(folder.intermediateFolder() / "math" / "config.json", "{}");
    writeFile(folder.intermediateFolder() / ".removed" / "config.json", "{}");  // of a run that ended within publish()
    folder.dropUnusedIntermediates();
    folder.prepareIntermediates();
    EXPECT_TRUE(fs::exists(temp.path() / "out.intermediate" / "math" / "config.json"));
    folder.prepare("job");

    folder.publish();

    EXPECT_FALSE(fs::exists(temp.path() / "out.intermediate"));
}

TEST(OutputFolder, DropsIntermediatesThatHoldNoOutput) {
    const TempFolder temp;
    {
        OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, "aimerge"});
        folder.dropUnusedIntermediates();
        folder.prepareIntermediates();
        folder.dropUnusedIntermediates();
    }

    EXPECT_TRUE(fs::is_empty(temp.path()));
}

TEST(OutputFolder, LeavesAForeignFolderInTheIntermediatesPlace) {
    const TempFolder temp;
    const fs::path foreign = temp.path() / "out.intermediate" / "mine" / "config.json";
    writeFile(foreign, "{}");
    const fs::path model = foreign.parent_path();
    EXPECT_THAT(refusal({temp.path() / "out", {model}, ExistingOutput::Refuse, ""}), HasSubstr("would replace the input"));
    OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, "aimerge"});
    EXPECT_THROW(folder.prepareIntermediates(), UsageError);
    folder.prepare("job");

    folder.publish();

    EXPECT_TRUE(fs::exists(foreign));
}

TEST(OutputFolder, RefusesASecondJobAndNamesTheHolder) {
    const TempFolder temp;
    const fs::path out = temp.path() / "out";
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const OutputFolder held = OutputFolder::acquire({out, {}, ExistingOutput::Refuse, "aimerge merge first.yaml"});
        if (::write(ready[1], "x", 1) == 1) ::pause();
        ::_exit(1);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);

    const std::string message = refusal({out, {}, ExistingOutput::Refuse, "aimerge merge second.yaml"});
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);

    EXPECT_THAT(message, AllOf(HasSubstr("another job"), HasSubstr(fmt::format("pid {}", child)), HasSubstr("host "),
                               HasSubstr("aimerge merge first.yaml")));
    // The kernel releases the lock of a process that was killed, although its file is still there.
    EXPECT_TRUE(fs::exists(temp.path() / "out.partial.lock"));
    EXPECT_EQ(refusal({out, {}, ExistingOutput::Refuse, ""}), "");
    EXPECT_FALSE(fs::exists(temp.path() / "out.partial.lock"));
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST(OutputFolder, ResumesTheSameJobAndClearsAnotherOne) {
    const TempFolder temp;
    const OutputRequest request{temp.path() / "out", {}, ExistingOutput::Refuse, ""};
    {
        OutputFolder first = OutputFolder::acquire(request);
        first.prepare("job A");
        writeFile(first.buildFolder() / "model.safetensors", "half");
        writeFile(first.buildFolder() / ".config.json.7.tmp", "torn");
    }
    {
        OutputFolder again = OutputFolder::acquire(request);
        EXPECT_EQ(again.prepare("job A"), Preparation::Resumed);
        EXPECT_EQ(namesIn(again.buildFolder()), std::vector<std::string>{"model.safetensors"});
    }
    OutputFolder other = OutputFolder::acquire(request);
    EXPECT_EQ(other.prepare("job B"), Preparation::Fresh);
    EXPECT_TRUE(fs::is_empty(other.buildFolder()));
}

TEST(OutputFolder, DoesNotTouchAPartialFolderOfSomebodyElse) {
    const TempFolder temp;
    writeFile(temp.path() / "out.partial" / "thesis.tex", "x");
    OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, ""});

    EXPECT_THROW(folder.prepare("job"), UsageError);
    EXPECT_TRUE(fs::exists(temp.path() / "out.partial" / "thesis.tex"));
}

TEST(OutputFolder, ReplacesTheOldOutputBySwapping) {
    const TempFolder temp;
    const fs::path out = temp.path() / "out";
    writeFile(out / "old", "old");
    {
        OutputFolder folder = OutputFolder::acquire({out, {}, ExistingOutput::Replace, ""});
        folder.prepare("job");
        writeFile(folder.buildFolder() / "new", "new");
        EXPECT_TRUE(fs::exists(out / "old"));
        folder.publish();
    }

    EXPECT_EQ(namesIn(out), std::vector<std::string>{"new"});
    EXPECT_EQ(namesIn(temp.path()), std::vector<std::string>{"out"});
}

TEST(OutputFolder, RecoversFromACrashWhileReplacing) {
    const TempFolder temp;
    const fs::path out = temp.path() / "out";

    // Between the two renames: the old output is put back and still guarded.
    writeFile(temp.path() / "out.replaced-77" / "old", "old");
    EXPECT_THAT(refusal({out, {}, ExistingOutput::Refuse, ""}), HasSubstr("exists"));
    EXPECT_EQ(readTextFile(out / "old"), "old");

    // While deleting what was replaced: the deletion is completed. A folder that only looks similar stays.
    writeFile(temp.path() / "out.replaced-77" / "older", "");
    writeFile(temp.path() / "out.replaced-by-me" / "file", "");
    EXPECT_EQ(refusal({out, {}, ExistingOutput::Replace, ""}), "");
    EXPECT_EQ(namesIn(temp.path()), (std::vector<std::string>{"out", "out.replaced-by-me"}));
}

TEST(OutputFolder, RefusesATargetThatAppearedMeanwhile) {
    const TempFolder temp;
    OutputFolder folder = OutputFolder::acquire({temp.path() / "out", {}, ExistingOutput::Refuse, ""});
    folder.prepare("job");
    writeFile(temp.path() / "out" / "foreign", "x");

    EXPECT_THROW(folder.publish(), RuntimeFault);
    EXPECT_TRUE(fs::exists(temp.path() / "out" / "foreign"));
    EXPECT_TRUE(fs::exists(folder.buildFolder()));
}

TEST(OutputFolder, NamesOmegaFoldersByTheirValue) {
    EXPECT_EQ(omegaFolderName(0.4), "omega-0.4");
    EXPECT_EQ(omegaFolderName(1), "omega-1.0");
    EXPECT_EQ(omegaFolderName(0), "omega-0.0");
    EXPECT_EQ(omegaFolderName(0.125), "omega-0.125");
}

}  // namespace
}  // namespace aimerge
