#pragma once
// One merge from its config to the published folder: what `aimerge merge` does for a document, and a sweep for a point.

#include "job/expert_statistics_step.h"
#include "job/featcal_step.h"
#include "job/gather_step.h"
#include "job/merge_job.h"
#include "job/merge_step.h"
#include "job/shared_failure.h"
#include "job/staged_models.h"
#include "job/statistics_step.h"

#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"
#include "aimerge/merge/coverage.h"
#include "aimerge/output/journal.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/statistics/statistics_log.h"

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace aimerge {

/// What rank 0 alone has before the ranks share the work.
struct RootState {
    std::optional<OutputFolder> output;
    std::optional<StatisticsLog> statistics;  // given or cached; absent without AIM, or until it is made
    CalibrationInput calibration;
    std::string inputDigest;
    bool takesOver = false;  // a complete output from the same document and inputs is taken as it is
    bool showsPlan = true;
};

/// For --io scatter. @throws UsageError when something is measured or fitted on models that every rank must see
void requireNoSharedModels(const MergeJob& job);

/// Collective. Sends every rank the inputs of the tensors that it merges. @param names this rank's
void scatterInputs(World& world, StagedModels& staged, const MergeJob& job, const std::vector<std::string>& names);

/// In steps, so that a sweep merges several together. An input that is wrong does not get better by continuing: nothing of
/// the output is kept then.
class MergeRun {
public:
    /// @param root must outlive the run
    /// @param scope whether what goes wrong with the inputs or the config on any rank is a SharedFailure
    MergeRun(World& world, JobOptions options, const MergeConfig& config, RootState& root, FailureScope scope);
    MergeRun(const MergeRun&) = delete;
    MergeRun& operator=(const MergeRun&) = delete;

    /// Collective. Opens and plans, makes the statistics and the partial output ready, takes over what
    /// an earlier run has finished.
    void begin();

    /// Nothing is to be merged: a dry run, or a complete output was reused.
    bool isSettled() const { return !plan_; }

    /// What is left of this rank's share; valid as long as the run. @pre !isSettled()
    MergePass pass();

    /// Between two batches of the pass: with --gather root, what is merged goes to rank 0.
    void exchange();
    /// Collective. After the last batch, also where the pass has failed: rank 0 then has everything.
    void finishExchange();

    /// Collective. With `featcal`: makes the tensors that the pass leaves out. Nothing where the pass has failed.
    void fitFeatures(const MergePass& pass);

    /// Collective. Publishes what the pass has completed, or throws its error.
    void finish(const MergePass& pass);

    /// What there is when it has been published.
    MergeResult result() const;

    const MergeJob& job() const { return job_; }

private:
    void open();
    void takeOver();
    void takeOverFinished();
    StatisticsByModule sharedStatistics() const;

    World& world_;
    JobOptions options_;
    const MergeConfig& config_;
    RootState& root_;
    FailureScope scope_;
    MergeJob job_;
    std::optional<Plan> plan_;
    std::vector<StatisticsByModule> statistics_;  // as Activity has them
    std::optional<Coverage> coverage_;            // on rank 0, with AIM
    ProvidedStatistics provided_;
    std::filesystem::path partialFolder_, buildFolder_;
    std::optional<Journal> journal_;
    PointWriters writers_;
    WriterStore store_{writers_};
    std::vector<std::string> remaining_;
    std::optional<FeatcalTexts> texts_;        // with featcal
    std::set<std::string> unfitted_;           // on rank 0: fitted tensors that no earlier run has finished
    std::optional<StagedModels> staged_;       // --io scatter
    std::optional<OutgoingStore> outgoing_;    // --gather root, on every rank but 0
    std::optional<IncomingTensors> incoming_;  // on rank 0
};

/// Collective. A document's whole merge.
MergeResult mergeDocument(World& world, const JobOptions& options, const MergeConfig& config, RootState& root);

}  // namespace aimerge
