#pragma once
// Where a job's output grows and how it appears: whole or not at all. Rank 0 owns it; the other ranks only need its paths.
//
//     <out>.partial.lock           held while a job works on <out>
//     <out>.partial/job.json       which job this is: the digest a rerun compares
//     <out>.partial/journal-R.jsonl   tensors finished by rank R (output/journal.h)
//     <out>.partial/output/        becomes <out> by one rename
//     <out>.intermediate/NAME      outputs that <out> is made from, each written in the same way; removed when
//                                  <out> is there
//
// With --overwrite the old folder is renamed to <out>.replaced-<pid> just before that and deleted just after, so at no
// moment is the only copy gone. A crash between the two renames is recognised by the next acquire(), which puts the old
// folder back; a crash while deleting is recognised too, and the deletion completed.

#include "aimerge/output/job_lock.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

/// Name of the statistics log that lies in every output folder.
inline constexpr const char* kStatisticsLogName = "aimerge_statistics.h5";

/// "omega-0.4", "omega-1.0": the folder of one value when omega is a list.
std::string omegaFolderName(double omega);

enum class ExistingOutput { Refuse, Replace };

struct OutputRequest {
    std::filesystem::path target;               // --out
    std::vector<std::filesystem::path> inputs;  // folders and files that are read: must survive
    ExistingOutput existing = ExistingOutput::Refuse;
    std::string command;  // the command line, for the lock's text
};

enum class Preparation { Fresh, Resumed };

class OutputFolder {
public:
    /// Takes the lock and creates the parent folder. Leaves nothing else behind when it throws or the
    /// object goes before prepare().
    /// @throws UsageError: `target` exists and is not to be replaced, lies inside or is an input, holds an input, or is
    ///         being written by another job
    static OutputFolder acquire(const OutputRequest& request);

    /// Makes the partial folder ready. What an earlier run of the same job left stays (Resumed: see readJournals()); what
    /// another job left is removed with a notice on stderr.
    /// @param jobDigest of everything that decides the output's bytes: inputs, config, settings, tool version
    /// @throws UsageError when `<target>.partial` is not a folder of ours
    Preparation prepare(const std::string& jobDigest);

    const std::filesystem::path& target() const { return target_; }
    std::filesystem::path partialFolder() const;  // of journals
    std::filesystem::path buildFolder() const;    // of the output

    /// Makes <out>.intermediate ready for the outputs that this one is made from; what lies there already stays.
    /// @throws UsageError when it is not a folder of ours
    void prepareIntermediates();
    /// Removes <out>.intermediate as long as there is no output in it.
    void dropUnusedIntermediates();
    std::filesystem::path intermediateFolder() const;

    /// Syncs every file and folder, renames the build folder to the target, removes the partial and the intermediate folder.
    /// @pre prepare() was called and every rank has closed or synced what it wrote
    void publish();

    /// Removes the partial folder: for a job whose output is not to be continued.
    void discard();

private:
    OutputFolder(std::filesystem::path target, ExistingOutput existing, JobLock lock);

    void recoverReplaced();
    void swapIn();

    std::filesystem::path target_;
    ExistingOutput existing_;
    JobLock lock_;
};

}  // namespace aimerge
