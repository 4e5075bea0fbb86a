#include "aimerge/merge/expert_statistics.h"

#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

class FileSource : public TensorSource {
public:
    FileSource(std::string origin, std::shared_ptr<const File> file, std::uint64_t begin)
        : TensorSource(std::move(origin), Dtype::F32), file_(std::move(file)), begin_(begin) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        file_->readAt(begin_ + static_cast<std::uint64_t>(first) * sizeof(float), out);
    }

private:
    std::shared_ptr<const File> file_;
    std::uint64_t begin_;
};

}  // namespace

ExpertStatistics ExpertStatistics::open(const std::filesystem::path& folder, std::string model) {
    ExpertStatistics statistics;
    statistics.model_ = std::move(model);
    std::error_code unreadable;
    for (const auto& entry : std::filesystem::directory_iterator(folder, unreadable)) {
        if (entry.path().extension() != ".safetensors") continue;
        const auto file = std::make_shared<const File>(File::openForReading(entry.path()));
        for (TensorInfo& tensor : readSafetensorsHeader(entry.path()).tensors) {
            std::string name = tensor.name;
            statistics.places_.emplace(std::move(name), Place{file, std::move(tensor)});
        }
    }
    if (statistics.places_.empty())
        throw InputError(
            "{}: holds no statistics of {}; on several machines the cache (AIMERGE_CACHE_DIR) must be on a disk "
            "that all of them see",
            folder.string(), statistics.model_);
    return statistics;
}

ExpertStatistics ExpertStatistics::ofLog(const std::filesystem::path& log, std::string model) {
    ExpertStatistics statistics;
    statistics.model_ = std::move(model);
    const auto file = std::make_shared<const File>(File::openForReading(log));
    for (SensitivityPlace& place : readSensitivityPlaces(log)) {
        TensorInfo tensor;
        tensor.name = place.parameter;
        tensor.shape = std::move(place.shape);
        tensor.bytes = {place.begin, place.begin + static_cast<std::uint64_t>(tensor.elements()) * sizeof(float)};
        statistics.places_.emplace(std::move(place.parameter), Place{file, std::move(tensor)});
    }
    if (statistics.places_.empty())
        throw InputError(
            "{}: holds no /sensitivity; take it with aimerge calibrate and aim.statistic sensitivity, or leave out "
            "aim.statistics",
            log.string());
    return statistics;
}

std::vector<SensitivityValues> ExpertStatistics::values() const {
    std::vector<SensitivityValues> all;
    for (const auto& [name, place] : places_) {
        const std::shared_ptr<const TensorSource> source = sourceOf(place, place.tensor.shape);
        all.push_back({name, place.tensor.shape, [source](std::int64_t first, std::span<float> out) {
                           source->fetch(first, std::as_writable_bytes(out));
                       }});
    }
    return all;
}

std::shared_ptr<const TensorSource> ExpertStatistics::gramOf(const std::string& module, const Shape& shape) const {
    if (shape.size() != 2) return nullptr;
    const auto found = places_.find(module + ".gram");
    return found == places_.end() ? nullptr : sourceOf(found->second, {shape[1], shape[1]});
}

std::shared_ptr<const TensorSource> ExpertStatistics::elementsOf(const std::string& parameter, const Shape& shape) const {
    const auto found = places_.find(parameter);
    if (found == places_.end())
        throw InputError(
            "{}: {} is no parameter of the decoder, so its gradient was not measured; merge without statistics of "
            "gradients, or remove it",
            model_, parameter);
    return sourceOf(found->second, shape);
}

std::shared_ptr<const TensorSource> ExpertStatistics::sourceOf(const Place& place, const Shape& expected) const {
    if (place.tensor.dtype != Dtype::F32 || place.tensor.shape != expected)
        throw InputError(
            "{}: {} is {} {}, expected F32 {}; measure it again (delete the file's folder in the cache, or the log)",
            place.file->path().string(), place.tensor.name, safetensorsName(place.tensor.dtype),
            shapeText(place.tensor.shape), shapeText(expected));
    return std::make_shared<FileSource>(model_ + ": statistics: " + place.tensor.name, place.file, place.tensor.bytes.begin);
}

}  // namespace aimerge
