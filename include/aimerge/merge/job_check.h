#pragma once
// Whether a config fits its method: known parameter names, values in range, base model and number of models. Looks at the
// config alone, so it comes before any file is opened.

#include "aimerge/config/merge_config.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// Settings that the method accepts but never reads where they stand (a shared parameter among a model's own, anything on
/// the base of a method that treats it apart) are warnings.
/// @throws UsageError with the mark: unknown parameter (gives the nearest name), value out of range, base_model missing,
///         too few models
void checkMergeConfig(const Method& method, const MergeConfig& config);

/// The part of it that looks at parameters, not at the models.
void checkMergeParameters(const Method& method, const MergeConfig& config);

}  // namespace aimerge
