#pragma once
// A `calibration:` section: which text or token ids a model is run on, and how. The same keys wherever it stands.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

namespace aimerge {

/// Sets what the section gives; other fields keep their values. @param name "aim.calibration", for messages
void readCalibration(CalibrationConfig& calibration, const YamlEntry& section, const std::string& name);

/// A section that must name its input. @throws UsageError when it has neither corpus nor token_ids
CalibrationConfig readWholeCalibration(const YamlEntry& section, const std::string& name);

}  // namespace aimerge
