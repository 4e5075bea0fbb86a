#include "job/input_files.h"

#include "aimerge/checkpoint/adapter.h"
#include "aimerge/core/error.h"
#include "aimerge/corpus/corpus_files.h"
#include "aimerge/vocabulary/tokenizer_files.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

void addStamp(const fs::path& file, Hasher& hasher) {
    const auto time = fs::last_write_time(file).time_since_epoch().count();
    hasher.updateField(fmt::format("{} {} {}", file.string(), fs::file_size(file), time));
}

std::set<fs::path> filesIn(const fs::path& folder) {
    std::set<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file()) files.insert(entry.path());
    return files;
}

}  // namespace

std::vector<fs::path> inputPaths(const MergeConfig& config) {
    std::vector<fs::path> paths;
    const auto addCalibration = [&](const CalibrationConfig& calibration) {
        for (const CorpusSource& source : calibration.corpus)
            std::ranges::move(findCorpusFiles(source.path), std::back_inserter(paths));
        paths.emplace_back(calibration.tokenIds);
    };
    const auto addModel = [&](const std::string& name) {
        if (std::ranges::any_of(config.uses, [&](const auto& document) { return refersToDocument(name, document); })) return;
        const auto parts = splitAdaptedName(name);
        for (const std::string& part : parts ? std::vector{parts->base, parts->adapter} : std::vector{name})
            paths.emplace_back(part);
    };
    for (const Slice& slice : config.slices) {
        for (const ModelEntry& source : slice.sources) {
            addModel(source.model);
            if (source.calibration) addCalibration(*source.calibration);
        }
        addModel(slice.baseModel);
    }
    addModel(config.baseModel);
    if (config.calibration) addCalibration(*config.calibration);
    const auto addExpert = [&](const FeatcalExpert& expert) {
        if (!expert.model.empty()) addModel(expert.model);
        if (expert.calibration) addCalibration(*expert.calibration);
    };
    if (config.featcal) std::ranges::for_each(config.featcal->experts, addExpert);
    if (config.featcal && config.featcal->base) addExpert(*config.featcal->base);
    if (config.aim) {
        paths.emplace_back(config.aim->statisticsPath);
        addCalibration(config.aim->calibration);
    }
    std::erase_if(paths, [](const fs::path& path) { return path.empty() || !fs::exists(path); });
    return paths;
}

std::string inputDigest(const MergeJob& job) {
    Hasher hasher;
    hasher.updateField(jobDigest(job, {}, {}));
    std::set<fs::path> files;
    for (const Checkpoint& model : job.models.models)
        for (const fs::path& folder : {model.folder(), model.tokenizerFolder()}) {
            files.merge(filesIn(folder));
            for (const std::string& name : additionalChatTemplates(folder)) files.insert(folder / name);
        }
    for (const fs::path& path : inputPaths(job.config))
        if (fs::is_regular_file(path)) files.insert(path);
    for (const fs::path& file : files) addStamp(file, hasher);
    return hasher.digest().hex();
}

}  // namespace aimerge
