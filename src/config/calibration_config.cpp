#include "config/calibration_config.h"

#include "aimerge/config/mapping_reader.h"
#include "config/assign_if_given.h"

namespace aimerge {

void readCalibration(CalibrationConfig& calibration, const YamlEntry& section, const std::string& name) {
    const MappingReader reader(section.value, name,
                               {"corpus", "text_key", "token_ids", "sequences", "sequence_length", "seed", "shuffle",
                                "packing", "dtype", "micro_batch", "sequential"});
    calibration.mark = section.mark;
    assignIfGiven(calibration.corpus, reader.text("corpus"));
    if (const YamlEntry* keys = reader.find("text_key"))
        calibration.textKeys = textsOf(keys->value, reader.nameOf("text_key"));
    assignIfGiven(calibration.tokenIds, reader.text("token_ids"));
    assignIfGiven(calibration.sequences, reader.wholeNumber("sequences", 1));
    assignIfGiven(calibration.sequenceLength, reader.wholeNumber("sequence_length", 1));
    assignIfGiven(calibration.seed, reader.naturalNumber("seed"));
    assignIfGiven(calibration.shuffle, reader.boolean("shuffle"));
    assignIfGiven(calibration.packing,
                  reader.choice<Packing>("packing", {{"stream", Packing::Stream}, {"lines", Packing::Lines}}));
    assignIfGiven(calibration.dtype, reader.choice<Dtype>("dtype", {{"bfloat16", Dtype::BF16}, {"float32", Dtype::F32}}));
    assignIfGiven(calibration.microBatch, reader.wholeNumber("micro_batch", 1));
    assignIfGiven(calibration.sequential, reader.boolean("sequential"));
    if (!calibration.corpus.empty() && !calibration.tokenIds.empty())
        throw UsageError("{}: 'token_ids' and 'corpus' exclude each other: ready token ids need no text",
                         reader.find("token_ids")->mark.text());
}

CalibrationConfig readWholeCalibration(const YamlEntry& section, const std::string& name) {
    CalibrationConfig calibration;
    readCalibration(calibration, section, name);
    if (calibration.corpus.empty() && calibration.tokenIds.empty())
        throw UsageError("{}: {} needs a text 'corpus' or ready 'token_ids'", section.mark.text(), name);
    if (calibration.sequential)
        throw UsageError("{}: 'sequential' is for aim.calibration; experts are measured by themselves", section.mark.text());
    return calibration;
}

}  // namespace aimerge
