#include "aimerge/core/program_files.h"

#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

TEST(ProgramFiles, OfAnInstallationLieBesideItsExecutable) {
    const TempFolder prefix;
    fs::create_directories(prefix / "share/aimerge/tools");

    const ProgramFiles files = programFilesOf(prefix / "bin/aimerge");

    EXPECT_TRUE(files.installed);
    EXPECT_EQ(files.torchLibrary, prefix / "lib/aimerge/libaimerge_torch.so");
    EXPECT_EQ(files.tools, prefix / "share/aimerge/tools");
    EXPECT_EQ(files.paperTables, prefix / "share/aimerge/configs/paper/printed");
    EXPECT_EQ(files.python, "/usr/bin/python3");
}

TEST(ProgramFiles, OfAnInstallationAreFoundFromItsLibrary) {
    const TempFolder prefix;
    fs::create_directories(prefix / "share/aimerge/tools");

    const ProgramFiles files = programFilesOf(prefix / "lib/aimerge/libaimerge.so");

    EXPECT_TRUE(files.installed);
    EXPECT_EQ(files.torchLibrary, prefix / "lib/aimerge/libaimerge_torch.so");
    EXPECT_EQ(files.tools, prefix / "share/aimerge/tools");
}

TEST(ProgramFiles, OfABuildLieInTheSourceTree) {
    const TempFolder build;
    fs::create_directories(build / "share/aimerge");  // of another kind: no tools in it

    const ProgramFiles files = programFilesOf(build / "bin/aimerge");

    EXPECT_FALSE(files.installed);
    EXPECT_EQ(files.torchLibrary, build / "bin/libaimerge_torch.so");
    EXPECT_EQ(files.tools, fs::path(AIMERGE_SOURCE_ROOT) / "src/tools");
    EXPECT_EQ(files.paperTables, fs::path(AIMERGE_SOURCE_ROOT) / "configs/paper/printed");
    EXPECT_EQ(files.python, fs::path(AIMERGE_SOURCE_ROOT) / "build/venv/bin/python");
}

TEST(ProgramFiles, OfThisTestAreThoseOfItsBuild) {
    const ProgramFiles& files = programFiles();

    EXPECT_EQ(files.torchLibrary.parent_path(), fs::read_symlink("/proc/self/exe").parent_path());
    EXPECT_TRUE(fs::exists(files.tools / "encode_documents.py")) << files.tools;
    EXPECT_TRUE(fs::exists(files.paperTables)) << files.paperTables;
}

}  // namespace
}  // namespace aimerge
