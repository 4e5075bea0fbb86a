#include "aimerge/core/environment.h"

#include "aimerge/core/error.h"
#include "aimerge/core/program_files.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <regex>
#include <string>
#include <string_view>

namespace aimerge::environment {
namespace {

/// The variable's value; a variable set to nothing counts as unset.
std::optional<std::string> variable(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
}

std::filesystem::path homeDirectory() {
    if (const auto home = variable("HOME")) return *home;
    throw UsageError(
        "the environment variable HOME is not set: set it, or name the folders by AIMERGE_CACHE_DIR and HF_HUB_CACHE");
}

/// With the values of variables for "$NAME" and "${NAME}"; a name that is not set stays.
std::string withVariables(const std::string& text) {
    static const std::regex kVariable(R"(\$(\w+|\{[^}]*\}))");
    std::string result;
    auto begin = text.begin();
    for (std::sregex_iterator found(text.begin(), text.end(), kVariable), end; found != end; ++found) {
        std::string name = (*found)[1];
        if (name.starts_with('{')) name = name.substr(1, name.size() - 2);
        const char* value = std::getenv(name.c_str());
        result.append(begin, (*found)[0].first).append(value != nullptr ? value : found->str());
        begin = (*found)[0].second;
    }
    return result.append(begin, text.end());
}

/// A folder from a variable; "~" at its beginning and variables within are expanded, as huggingface_hub does.
std::optional<std::filesystem::path> folder(const char* name) {
    const auto value = variable(name);
    if (!value) return std::nullopt;
    const bool isOfHome = *value == "~" || value->starts_with("~/");
    return withVariables(isOfHome ? homeDirectory().string() + value->substr(1) : *value);
}

/// 1 where there is none.
int wholeNumber(const char* name) {
    const auto text = variable(name);
    int number = 1;
    if (text) std::from_chars(text->data(), text->data() + text->size(), number);
    return number;
}

std::filesystem::path userCacheDirectory() {
    if (const auto cache = folder("XDG_CACHE_HOME")) return *cache;
    return homeDirectory() / ".cache";
}

}  // namespace

std::filesystem::path cacheDirectory() {
    if (const auto cache = folder("AIMERGE_CACHE_DIR")) return *cache;
    return userCacheDirectory() / "aimerge";
}

std::string pythonInterpreter() {
    if (const auto python = variable("AIMERGE_PYTHON")) return *python;
    const std::filesystem::path& python = programFiles().python;
    return std::filesystem::exists(python) ? python.string() : "python3";
}

std::vector<std::string> pythonCommand() {
    std::vector<std::string> command{pythonInterpreter()};
    if (!variable("AIMERGE_PYTHON") && command[0] == programFiles().python) command.emplace_back("-E");
    return command;
}

std::filesystem::path toolsDirectory() {
    if (const auto tools = folder("AIMERGE_TOOLS_DIR")) return *tools;
    return programFiles().tools;
}

std::string howToGetPackage(std::string_view package) {
    if (!programFiles().installed)
        return fmt::format("run ./launch/setup.sh, or set AIMERGE_PYTHON to an interpreter with the package `{}`", package);
    return fmt::format(
        "set AIMERGE_PYTHON to an interpreter with the package `{}`: python3 -m venv ENV && ENV/bin/pip install -r {} "
        "&& export AIMERGE_PYTHON=$PWD/ENV/bin/python",
        package, (programFiles().tools / "requirements.txt").string());
}

std::filesystem::path scratchDirectory() {
    for (const char* name : {"AIMERGE_SCRATCH_DIR", "TMPDIR"})
        if (const auto scratch = folder(name)) return *scratch;
    return "/tmp";
}

double collectiveTimeoutSeconds() {
    const auto text = variable("AIMERGE_COLLECTIVE_TIMEOUT");
    if (!text) return 1800;
    double seconds = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, seconds);
    if (error != std::errc{} || stop != end || !std::isfinite(seconds) || seconds <= 0)
        throw UsageError("AIMERGE_COLLECTIVE_TIMEOUT='{}' is not a number of seconds above 0, such as 1800", *text);
    return seconds;
}

bool sharesGpus() {
    return variable("AIMERGE_SHARE_GPUS") == "1";
}

std::string slurmJobId() {
    return variable("SLURM_JOB_ID").value_or("");
}

std::filesystem::path hubCacheDirectory() {
    if (const auto cache = folder("HF_HUB_CACHE")) return *cache;
    if (const auto cache = folder("HUGGINGFACE_HUB_CACHE")) return *cache;
    if (const auto cache = folder("TRANSFORMERS_CACHE")) return *cache;
    if (const auto home = folder("HF_HOME")) return *home / "hub";
    return userCacheDirectory() / "huggingface" / "hub";
}

bool startedByMpiLauncher() {
    return variable("OMPI_COMM_WORLD_SIZE") || variable("PMIX_RANK") || variable("PMI_RANK");
}

int launchedProcesses() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"})
        if (variable(name)) return wholeNumber(name);
    return 1;
}

int launchedProcessesHere() {
    return variable("OMPI_COMM_WORLD_LOCAL_SIZE") ? wholeNumber("OMPI_COMM_WORLD_LOCAL_SIZE") : launchedProcesses();
}

std::string sessionFolderOfLauncher() {
    return variable("OMPI_MCA_orte_jobfam_session_dir").value_or("");
}

int launchedRank() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
        if (variable(name)) return wholeNumber(name);
    return 0;
}

int slurmStepTasks() {
    return wholeNumber("SLURM_STEP_NUM_TASKS");
}

}  // namespace aimerge::environment
