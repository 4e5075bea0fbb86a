#include "config/calibration_config.h"

#include "aimerge/config/mapping_reader.h"
#include "config/assign_if_given.h"

#include <algorithm>
#include <limits>
#include <string_view>

namespace aimerge {
namespace {

CorpusSource readSource(const YamlNode& node, const std::string& name) {
    if (node.kind == YamlNode::Kind::Sequence)
        throw UsageError("{}: {} must be a text or a mapping {{path, share}}, found {}", node.mark.text(), name,
                         describe(node));
    if (node.kind != YamlNode::Kind::Mapping) return {textsOf(node, name).front()};
    const MappingReader reader(node, name, {"path", "share"});
    CorpusSource source;
    assignIfGiven(source.path, reader.text("path"));
    if (source.path.empty())
        throw UsageError("{}: {} needs a 'path': a file, a folder or a pattern", node.mark.text(), name);
    assignIfGiven(source.share, reader.number("share", 0, std::numeric_limits<double>::max()));
    if (reader.find("share") != nullptr && source.share == 0)
        throw UsageError("{}: {}.share must be above 0; leave the file out instead", node.mark.text(), name);
    return source;
}

/// A path, or a list of paths and {path, share}.
std::vector<CorpusSource> readCorpus(const YamlEntry& entry, const std::string& name) {
    if (entry.value.kind != YamlNode::Kind::Sequence) return {readSource(entry.value, name)};
    std::vector<CorpusSource> sources;
    for (std::size_t i = 0; i < entry.value.items.size(); ++i)
        sources.push_back(readSource(entry.value.items[i], fmt::format("{}[{}]", name, i)));
    if (sources.empty()) throw UsageError("{}: {} is an empty list", entry.value.mark.text(), name);
    const auto shares = std::ranges::count_if(sources, [](const CorpusSource& source) { return source.share > 0; });
    if (shares != 0 && shares != std::ssize(sources))
        throw UsageError("{}: {} of {} sources of {} have a 'share'; give one to all or to none", entry.value.mark.text(),
                         shares, sources.size(), name);
    return sources;
}

/// What is not written of them is as the file has it; what shapes a text has no effect on them.
void takeReadySequences(CalibrationConfig& calibration, const MappingReader& reader) {
    calibration.sequences = reader.wholeNumber("sequences", 1).value_or(0);
    calibration.sequenceLength = reader.wholeNumber("sequence_length", 1).value_or(0);
    for (const char* key : {"text_key", "chat_template", "packing", "seed", "shuffle"}) {
        const YamlEntry* entry = reader.find(key);
        if (entry == nullptr || (std::string_view(key) == "shuffle" && !calibration.shuffle)) continue;
        throw UsageError("{}: '{}' is for a 'corpus'; ready 'token_ids' are run as they stand", entry->mark.text(), key);
    }
}

}  // namespace

std::string CalibrationConfig::inputName() const {
    std::string name = tokenIds;
    for (const CorpusSource& source : corpus) name += (name.empty() ? "" : ", ") + source.path;
    return name;
}

void readCalibration(CalibrationConfig& calibration, const YamlEntry& section, const std::string& name) {
    const MappingReader reader(section.value, name,
                               {"corpus", "text_key", "chat_template", "token_ids", "sequences", "sequence_length", "seed",
                                "shuffle", "packing", "dtype", "micro_batch", "sequential"});
    calibration.mark = section.mark;
    if (const YamlEntry* corpus = reader.find("corpus")) calibration.corpus = readCorpus(*corpus, reader.nameOf("corpus"));
    if (const YamlEntry* keys = reader.find("text_key"))
        calibration.textKeys = textsOf(keys->value, reader.nameOf("text_key"));
    assignIfGiven(calibration.chatTemplate, reader.text("chat_template"));
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
    if (!calibration.tokenIds.empty()) takeReadySequences(calibration, reader);
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
