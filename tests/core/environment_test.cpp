#include "aimerge/core/environment.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <vector>

namespace aimerge {
namespace {

/// Begins each test with none of the variables set, and puts the old values back.
class Environment : public testing::Test {
protected:
    Environment() {
        for (const char* name : kNames) {
            const char* value = std::getenv(name);
            old_.emplace_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
            ::unsetenv(name);
        }
        ::setenv("HOME", "/home/ada", 1);
    }
    ~Environment() override {
        for (std::size_t i = 0; i < old_.size(); ++i) {
            if (old_[i])
                ::setenv(kNames[i], old_[i]->c_str(), 1);
            else
                ::unsetenv(kNames[i]);
        }
    }

private:
    static constexpr std::array kNames{
        "AIMERGE_TOOLS_DIR", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS",  "OMPI_COMM_WORLD_SIZE",       "PMIX_RANK",
        "PMI_RANK",          "HOME",         "XDG_CACHE_HOME",        "AIMERGE_CACHE_DIR",          "AIMERGE_PYTHON",
        "HF_HOME",           "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "AIMERGE_COLLECTIVE_TIMEOUT", "TRANSFORMERS_CACHE"};
    std::vector<std::optional<std::string>> old_;
};

TEST_F(Environment, CacheDirectoryFollowsTheMoreSpecificVariable) {
    EXPECT_EQ(environment::cacheDirectory(), "/home/ada/.cache/aimerge");
    ::setenv("XDG_CACHE_HOME", "/fast", 1);
    EXPECT_EQ(environment::cacheDirectory(), "/fast/aimerge");
    ::setenv("AIMERGE_CACHE_DIR", "~/kept", 1);
    EXPECT_EQ(environment::cacheDirectory(), "/home/ada/kept");
}

TEST_F(Environment, HubCacheFollowsTheRulesOfHuggingFace) {
    EXPECT_EQ(environment::hubCacheDirectory(), "/home/ada/.cache/huggingface/hub");
    ::setenv("XDG_CACHE_HOME", "/fast", 1);
    EXPECT_EQ(environment::hubCacheDirectory(), "/fast/huggingface/hub");
    ::setenv("HF_HOME", "/models", 1);
    EXPECT_EQ(environment::hubCacheDirectory(), "/models/hub");
    ::setenv("TRANSFORMERS_CACHE", "/of-transformers-4", 1);
    EXPECT_EQ(environment::hubCacheDirectory(), "/of-transformers-4");
    ::setenv("HF_HUB_CACHE", "/elsewhere", 1);
    EXPECT_EQ(environment::hubCacheDirectory(), "/elsewhere");
}

TEST_F(Environment, FoldersMayNameTheHomeAndVariables) {
    ::setenv("XDG_CACHE_HOME", "/fast", 1);
    const struct {
        const char *value, *folder;
    } rows[] = {{"~", "/home/ada"},
                {"~/hub", "/home/ada/hub"},
                {"$HOME/hub", "/home/ada/hub"},
                {"${HOME}/hub", "/home/ada/hub"},
                {"/a/$XDG_CACHE_HOME-b", "/a//fast-b"},
                {"~/${XDG_CACHE_HOME}", "/home/ada//fast"},
                {"/a/~/$", "/a/~/$"},
                {"/a/$NOT_SET_AT_ALL/b", "/a/$NOT_SET_AT_ALL/b"}};
    for (const auto& [value, folder] : rows) {
        ::setenv("HF_HUB_CACHE", value, 1);
        EXPECT_EQ(environment::hubCacheDirectory().string(), folder) << value;
    }
}

TEST_F(Environment, AVariableSetToNothingCountsAsUnset) {
    ::setenv("AIMERGE_CACHE_DIR", "", 1);
    EXPECT_EQ(environment::cacheDirectory(), "/home/ada/.cache/aimerge");
}

TEST_F(Environment, WithoutHomeTheErrorNamesTheVariables) {
    ::unsetenv("HOME");
    EXPECT_THAT([] { environment::cacheDirectory(); },
                testing::ThrowsMessage<UsageError>(testing::HasSubstr("HOME is not set")));
}

TEST_F(Environment, PythonIsTheOneThatIsSet) {
    EXPECT_THAT(environment::pythonInterpreter(), testing::AnyOf(testing::EndsWith("build/venv/bin/python"), "python3"));
    ::setenv("AIMERGE_PYTHON", "/opt/python", 1);
    EXPECT_EQ(environment::pythonInterpreter(), "/opt/python");
    EXPECT_THAT(environment::pythonCommand(), testing::ElementsAre("/opt/python"));
}

TEST_F(Environment, ToolsLieInTheSourceTreeUnlessMoved) {
    EXPECT_THAT(environment::toolsDirectory().string(), testing::EndsWith("src/tools"));
    ::setenv("AIMERGE_TOOLS_DIR", "/opt/tools", 1);
    EXPECT_EQ(environment::toolsDirectory(), "/opt/tools");
}

TEST_F(Environment, NamesTheSlurmJobIfThereIsOne) {
    EXPECT_EQ(environment::slurmJobId(), "");
    ::setenv("SLURM_JOB_ID", "4711", 1);
    EXPECT_EQ(environment::slurmJobId(), "4711");
}

TEST_F(Environment, OutsideOfSlurmAStepHasOneTask) {
    EXPECT_EQ(environment::slurmStepTasks(), 1);
    ::setenv("SLURM_STEP_NUM_TASKS", "4", 1);
    EXPECT_EQ(environment::slurmStepTasks(), 4);
}

TEST_F(Environment, KnowsEveryMpiLauncher) {
    EXPECT_FALSE(environment::startedByMpiLauncher());
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
        ::setenv(name, "0", 1);
        EXPECT_TRUE(environment::startedByMpiLauncher()) << name;
        ::unsetenv(name);
    }
}

TEST_F(Environment, TimeoutIsAPositiveNumberOfSeconds) {
    EXPECT_EQ(environment::collectiveTimeoutSeconds(), 1800);
    ::setenv("AIMERGE_COLLECTIVE_TIMEOUT", "2.5", 1);
    EXPECT_EQ(environment::collectiveTimeoutSeconds(), 2.5);
    for (const char* bad : {"0", "-1", "10s", "nan", "inf", "abc"}) {
        ::setenv("AIMERGE_COLLECTIVE_TIMEOUT", bad, 1);
        EXPECT_THAT([] { environment::collectiveTimeoutSeconds(); },
                    testing::ThrowsMessage<UsageError>(testing::HasSubstr("not a number of seconds above 0")))
            << bad;
    }
}

}  // namespace
}  // namespace aimerge
