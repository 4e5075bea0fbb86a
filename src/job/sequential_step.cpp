#include "job/sequential_step.h"

#include "job/merge_step.h"

namespace aimerge {
namespace {

/// The only point of a job, with the memory that it lies in.
class MergedWeights : public WeightSource {
public:
    MergedWeights(const MergeJob& job, const std::vector<std::string>& names, PointMemory& memory)
        : points_(job, names, memory), point_(points_.point(0, "the merged model")) {}

    PointStore& store() { return points_; }

    const std::string& name() const override { return point_->name(); }
    const ModelConfig& modelConfig() const override { return point_->modelConfig(); }
    const TensorInfo* find(std::string_view name) const override { return point_->find(name); }
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
        point_->read(tensor, offset, out);
    }

private:
    MemoryPoints points_;
    std::unique_ptr<WeightSource> point_;
};

template <typename IsWanted>
std::vector<std::string> namesWhere(const MergeJob& job, const IsWanted& isWanted) {
    std::vector<std::string> names;
    for (const OutputTensor& output : job.outputs)
        if (isWanted(job.models.output.placeOf(output.name))) names.push_back(output.name);
    return names;
}

}  // namespace

std::unique_ptr<WeightSource> JobLayers::embedding() {
    return merged(namesWhere(job_, [](const Place& place) { return place.part == Part::BeforeLayers; }), {});
}

std::unique_ptr<WeightSource> JobLayers::layer(std::int64_t layer, const StatisticsByModule& statistics) {
    const auto isOfLayer = [&](const Place& place) { return place.isLayer(0, layer); };
    return merged(namesWhere(job_, isOfLayer), statistics);
}

std::unique_ptr<WeightSource> JobLayers::merged(const std::vector<std::string>& names,
                                                const StatisticsByModule& statistics) {
    auto weights = std::make_unique<MergedWeights>(job_, names, memory_);
    mergeNow({job_, names, {&statistics, 1}, {}, nullptr, weights->store()}, threads_, device_);
    return weights;
}

}  // namespace aimerge
