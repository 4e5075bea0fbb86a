#include "aimerge/torch/torch_library.h"

#include "aimerge/core/error.h"
#include "aimerge/core/program_files.h"

#include <dlfcn.h>

#include <filesystem>

namespace aimerge {
namespace {

void* loadLibrary() {
    const std::filesystem::path& path = programFiles().torchLibrary;
    // Never closed: libtorch's threads and static objects do not survive that.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw RuntimeFault("running a model needs {}, which cannot be loaded: {}", path.string(), dlerror());
    return library;
}

void* library() {
    static void* const loaded = loadLibrary();
    return loaded;
}

template <typename Entry>
Entry entryNamed(const char* name) {
    void* entry = dlsym(library(), name);
    if (!entry)
        throw RuntimeFault("{}: is of another version of aimerge; build again", programFiles().torchLibrary.string());
    return reinterpret_cast<Entry>(entry);
}

}  // namespace

CalibrationResult calibrateWithTorch(World& world, const CalibrationJob& job) {
    CalibrationResult result;
    entryNamed<decltype(&aimerge_calibrate_v1)>("aimerge_calibrate_v1")(&world, &job, &result);
    return result;
}

void measureGramsWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    entryNamed<decltype(&aimerge_measure_grams_v1)>("aimerge_measure_grams_v1")(&world, &job, &folder);
}

void measureFisherWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    entryNamed<decltype(&aimerge_measure_fisher_v1)>("aimerge_measure_fisher_v1")(&world, &job, &folder);
}

void measureSensitivityWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    entryNamed<decltype(&aimerge_measure_sensitivity_v1)>("aimerge_measure_sensitivity_v1")(&world, &job, &folder);
}

FeatcalResult calibrateFeaturesWithTorch(World& world, const FeatcalJob& job) {
    FeatcalResult result;
    entryNamed<decltype(&aimerge_calibrate_features_v1)>("aimerge_calibrate_features_v1")(&world, &job, &result);
    return result;
}

BatchScores scoreBatchesWithTorch(World& world, const ScoringJob& job) {
    BatchScores scores;
    entryNamed<decltype(&aimerge_score_batches_v1)>("aimerge_score_batches_v1")(&world, &job, &scores);
    return scores;
}

}  // namespace aimerge
