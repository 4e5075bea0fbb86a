#pragma once
// Whether a config fits its method: parameter names, values in range, base model and number of models. Looks at the config
// alone, so it comes before any file is opened.

#include "aimerge/config/merge_config.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// @return what nothing reads, for whoever tells the user (config/unread_key.h): MergeConfig::unread, parameters that only
///         other methods have or none, a parameter that is one for all models among a model's own when it says what holds
///         anyway, and anything on the base of a method that treats it apart
/// @throws UsageError with the mark: a slip of a parameter's name, a parameter of the method at a place where it has no
///         effect, value out of range, base_model missing, too few models
UnreadKeys checkMergeConfig(const Method& method, const MergeConfig& config);

/// The part of it that looks at parameters, not at the models.
UnreadKeys checkMergeParameters(const Method& method, const MergeConfig& config);

}  // namespace aimerge
