#include "aimerge/output/output_folder.h"

#include "aimerge/core/error.h"
#include "aimerge/core/utc_time.h"
#include "aimerge/core/version.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr const char* kJobFileName = "job.json";
constexpr const char* kIntermediatesMark = ".aimerge";  // in a folder of ours; no output has such a name
constexpr const char* kBeingRemoved = ".removed";       // in it too: an output that is no more
constexpr const char* kIntermediateSuffix = ".intermediate";

fs::path withSuffix(const fs::path& path, const std::string& suffix) {
    return fs::path(path.string() + suffix);
}

/// Absolute, links resolved as far as the path exists, without a trailing separator.
fs::path resolved(const fs::path& path) {
    fs::path result = fs::weakly_canonical(fs::absolute(path));
    return result.has_filename() ? result : result.parent_path();
}

/// True when `path` is `folder` or lies below it; both resolved.
bool isWithin(const fs::path& path, const fs::path& folder) {
    return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

void refuseUnsafeTarget(const fs::path& target, const OutputRequest& request) {
    std::error_code gone;  // the working folder may have been removed
    const fs::path here = fs::current_path(gone);
    if (!gone && isWithin(resolved(here), target)) {
        throw UsageError("--out {}: is the current folder or holds it; choose a folder of its own", target.string());
    }
    if (fs::is_symlink(fs::symlink_status(target))) {
        throw UsageError("--out {}: is a link to something that does not exist; remove the link or choose another --out",
                         target.string());
    }
    for (const fs::path& given : request.inputs) {
        const fs::path input = resolved(given);
        if (isWithin(target, input)) {
            throw UsageError("--out {}: lies inside the input {}; choose a folder outside of it", target.string(),
                             input.string());
        }
        if (isWithin(input, target) || isWithin(input, withSuffix(target, ".partial")) ||
            isWithin(input, withSuffix(target, kIntermediateSuffix))) {
            throw UsageError("--out {}: would replace the input {}; choose another --out", target.string(), input.string());
        }
    }
}

void renameFolder(const fs::path& from, const fs::path& to) {
    std::error_code error;
    fs::rename(from, to, error);
    if (error) throw RuntimeFault("cannot rename {} to {}: {}", from.string(), to.string(), error.message());
}

void removeFolder(const fs::path& folder) {
    std::error_code error;
    fs::remove_all(folder, error);
    if (error) throw RuntimeFault("cannot remove {}: {}", folder.string(), error.message());
}

void createFolders(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw RuntimeFault("cannot create the folder {}: {}", folder.string(), error.message());
}

void syncTree(const fs::path& folder) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
        if (entry.is_directory()) {
            syncDirectory(entry.path());
        } else {
            File::openForReading(entry.path()).sync();
        }
    }
    syncDirectory(folder);
}

/// Siblings "<name>.replaced-<digits>" of the target: left by a run that ended while it replaced the target.
std::vector<fs::path> replacedFolders(const fs::path& target) {
    const std::string prefix = target.filename().string() + ".replaced-";
    std::vector<fs::path> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(target.parent_path())) {
        const std::string name = entry.path().filename().string();
        if (name.size() > prefix.size() && name.starts_with(prefix) &&
            name.find_first_not_of("0123456789", prefix.size()) == std::string::npos) {
            found.push_back(entry.path());
        }
    }
    return found;
}

/// The digest in job.json; empty when the file cannot be understood.
std::string recordedDigest(const fs::path& jobFile) {
    const auto job = nlohmann::json::parse(readTextFile(jobFile), nullptr, false);
    return job.is_object() && job.contains("job_digest") && job["job_digest"].is_string()
               ? job["job_digest"].get<std::string>()
               : std::string();
}

/// A folder with something in it, but neither our mark nor what an interrupted writing of it leaves, is somebody else's.
void refuseForeign(const fs::path& folder, const std::string& mark) {
    if (!fs::is_directory(folder)) {
        throw UsageError("{}: is in the way of the unfinished output; move it away or choose another --out",
                         folder.string());
    }
    if (fs::exists(folder / mark)) return;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (entry.path().filename().string().find(mark) != std::string::npos) continue;
        throw UsageError("{}: was not made by aimerge (it has no {}); move it away or choose another --out", folder.string(),
                         mark);
    }
}

/// Removes a folder of ours. At any moment each of its entries is whole or gone for a later run, and the mark, which goes
/// last, says whose the rest is.
void removeMarked(const fs::path& folder, const std::string& mark) {
    if (!fs::exists(folder)) return;
    std::vector<fs::path> entries;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.path().filename() != mark && entry.path().filename() != kBeingRemoved) entries.push_back(entry.path());
    const fs::path beingRemoved = folder / kBeingRemoved;
    removeFolder(beingRemoved);
    for (const fs::path& entry : entries) {
        renameFolder(entry, beingRemoved);
        removeFolder(beingRemoved);
    }
    removeFolder(folder);
}

/// What writeTextFile() leaves when the process ends within it: it would be published otherwise.
void removeTemporaries(const fs::path& folder) {
    std::vector<fs::path> temporaries;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with('.') && name.ends_with(".tmp")) temporaries.push_back(entry.path());
    }
    for (const fs::path& temporary : temporaries) fs::remove(temporary);
}

}  // namespace

std::string omegaFolderName(double omega) {
    const std::string number = fmt::format("{}", omega);
    return "omega-" + number + (number.find_first_of(".e") == std::string::npos ? ".0" : "");
}

OutputFolder::OutputFolder(fs::path target, ExistingOutput existing, JobLock lock)
    : target_(std::move(target)), existing_(existing), lock_(std::move(lock)) {}

OutputFolder OutputFolder::acquire(const OutputRequest& request) {
    if (request.target.empty()) throw UsageError("--out is empty; name the folder to write");
    const fs::path target = resolved(request.target);
    refuseUnsafeTarget(target, request);
    createFolders(target.parent_path());
    OutputFolder folder(target, request.existing, JobLock::acquire(withSuffix(target, ".partial.lock"), request.command));
    folder.recoverReplaced();
    if (!fs::exists(target)) return folder;
    if (request.existing == ExistingOutput::Refuse) {
        throw UsageError("--out {}: exists already; choose another --out, or replace it with --overwrite", target.string());
    }
    if (!fs::is_directory(target)) throw UsageError("--out {}: is not a folder; choose another --out", target.string());
    return folder;
}

void OutputFolder::recoverReplaced() {
    for (const fs::path& replaced : replacedFolders(target_)) {
        if (fs::exists(target_)) {
            spdlog::warn("removing {}: an earlier run ended while deleting the output it had replaced", replaced.string());
            removeFolder(replaced);
        } else {
            spdlog::warn("restoring {} from {}: an earlier run ended while replacing it", target_.string(),
                         replaced.string());
            renameFolder(replaced, target_);
        }
    }
}

Preparation OutputFolder::prepare(const std::string& jobDigest) {
    const fs::path partial = partialFolder(), jobFile = partial / kJobFileName;
    if (fs::exists(fs::symlink_status(partial))) {
        refuseForeign(partial, kJobFileName);
        const bool sameJob = fs::exists(jobFile) && recordedDigest(jobFile) == jobDigest;
        if (sameJob && fs::is_directory(buildFolder())) {
            removeTemporaries(buildFolder());
            return Preparation::Resumed;
        }
        if (!sameJob) spdlog::warn("removing {}: left unfinished by a job with other inputs or settings", partial.string());
        removeMarked(partial, kJobFileName);
    }
    createFolders(partial);
    const nlohmann::ordered_json job = {{"job_digest", jobDigest}, {"aimerge", kVersion}, {"created", utcTimeText()}};
    writeTextFile(jobFile, job.dump(2) + "\n");
    createFolders(buildFolder());
    syncDirectory(partial);
    return Preparation::Fresh;
}

void OutputFolder::prepareIntermediates() {
    const fs::path folder = intermediateFolder();
    if (fs::exists(fs::symlink_status(folder))) refuseForeign(folder, kIntermediatesMark);
    createFolders(folder);
    writeTextFile(folder / kIntermediatesMark, fmt::format("aimerge {}, for {}\n", kVersion, target_.string()));
}

void OutputFolder::dropUnusedIntermediates() {
    const fs::path folder = intermediateFolder();
    const auto isMark = [](const fs::directory_entry& entry) { return entry.path().filename() == kIntermediatesMark; };
    if (fs::is_directory(folder) && std::all_of(fs::directory_iterator(folder), {}, isMark)) removeFolder(folder);
}

fs::path OutputFolder::intermediateFolder() const {
    return withSuffix(target_, kIntermediateSuffix);
}

fs::path OutputFolder::partialFolder() const {
    return withSuffix(target_, ".partial");
}

fs::path OutputFolder::buildFolder() const {
    return partialFolder() / "output";
}

void OutputFolder::publish() {
    syncTree(buildFolder());
    swapIn();
    removeMarked(partialFolder(), kJobFileName);
    if (fs::exists(intermediateFolder() / kIntermediatesMark)) removeMarked(intermediateFolder(), kIntermediatesMark);
}

void OutputFolder::swapIn() {
    const fs::path parent = target_.parent_path();
    if (!fs::exists(target_)) {
        renameFolder(buildFolder(), target_);
        syncDirectory(parent);
        return;
    }
    if (existing_ == ExistingOutput::Refuse) {
        throw RuntimeFault("{}: appeared while the job ran; move it away and run again to publish the result kept in {}",
                           target_.string(), partialFolder().string());
    }
    const fs::path replaced = withSuffix(target_, fmt::format(".replaced-{}", ::getpid()));
    renameFolder(target_, replaced);
    try {
        renameFolder(buildFolder(), target_);
    } catch (const RuntimeFault&) {
        renameFolder(replaced, target_);
        throw;
    }
    syncDirectory(parent);
    removeFolder(replaced);
}

void OutputFolder::discard() {
    removeMarked(partialFolder(), kJobFileName);
}

}  // namespace aimerge
