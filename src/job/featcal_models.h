#pragma once
// The models that a merge is fitted to (config section `featcal`), opened.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/config/merge_config.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace aimerge {

struct MergeJob;

/// A model of the merge, or one that takes part in the fit alone.
class FeatcalModel {
public:
    explicit FeatcalModel(std::size_t model) : model_(model) {}
    explicit FeatcalModel(Checkpoint own) : own_(std::make_shared<const Checkpoint>(std::move(own))) {}

    const Checkpoint& in(const MergeJob& job) const;
    bool isOwn() const { return own_ != nullptr; }

private:
    std::size_t model_ = 0;  // in ModelSet::models
    std::shared_ptr<const Checkpoint> own_;
};

struct FeatcalTeacherModel {
    FeatcalModel model;
    CalibrationConfig calibration;
    double weight = 1;
};

struct FeatcalModels {
    std::vector<FeatcalTeacherModel> teachers;
    std::vector<FeatcalModel> base;  // one, or none
    std::set<std::string> tensors;   // of the output, that are fitted
};

/// Headers only. @pre job.config.featcal, and the job's tensors are known
/// @throws UsageError with the mark: slices, several vocabularies, an expert without a text, texts run in different dtypes,
///         no module that the filters name; InputError: a model that the decoder does not run, or of other sizes
FeatcalModels openFeatcalModels(const MergeJob& job);

}  // namespace aimerge
