#include "job/memory_points.h"

#include "job/publish_step.h"

#include <algorithm>
#include <cstring>

namespace aimerge {

class MemoryPoints::Point : public WeightSource {
public:
    Point(const MemoryPoints& points, std::size_t number, std::string name)
        : points_(points), number_(number), name_(std::move(name)) {}

    const std::string& name() const override { return name_; }
    const ModelConfig& modelConfig() const override { return points_.config_; }
    const TensorInfo* find(std::string_view name) const override {
        const auto found = points_.tensors_.find(name);
        return found == points_.tensors_.end() ? nullptr : &found->second.info;
    }
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
        std::memcpy(out.data(), points_.tensors_.find(tensor.name)->second.bytes[number_].get() + offset, out.size());
    }

private:
    const MemoryPoints& points_;
    std::size_t number_;
    std::string name_;
};

ModelConfig mergedModelConfig(const MergeJob& job) {
    ModelConfig config = parseModelConfig(outputConfig(job), "the merged config.json");
    if (const auto& decoder = job.base().modelConfig().decoder; decoder && config.decoder)
        config.decoder->takeNames(decoder->layerPrefix, decoder->embedding, decoder->head);
    return config;
}

PointMemory::Bytes PointMemory::take(std::uint64_t size) {
    const auto found = free_.find(size);
    if (found == free_.end()) return std::make_unique_for_overwrite<std::byte[]>(size);
    return std::move(free_.extract(found).mapped());
}

MemoryPoints::MemoryPoints(const MergeJob& job, const std::vector<OutputTensor>& outputs,
                           const std::vector<std::string>& names, PointMemory& memory)
    : memory_(memory), config_(mergedModelConfig(job)) {
    for (const std::string& name : names) {
        const auto output = std::ranges::find(outputs, name, &OutputTensor::name);
        Tensor& tensor = tensors_[name];
        tensor.info = {
            .name = name, .dtype = output->dtype, .shape = output->shape, .fileIndex = 0, .bytes = {0, output->bytes()}};
        for (std::size_t point = 0; point < job.points.size(); ++point)
            tensor.bytes.push_back(memory_.take(output->bytes()));
    }
}

MemoryPoints::~MemoryPoints() {
    for (auto& [name, tensor] : tensors_)
        for (PointMemory::Bytes& bytes : tensor.bytes) memory_.giveBack(tensor.info.bytes.size(), std::move(bytes));
}

void MemoryPoints::write(std::size_t point, const std::string& tensor, std::uint64_t offset,
                         std::span<const std::byte> bytes) {
    std::memcpy(tensors_.find(tensor)->second.bytes[point].get() + offset, bytes.data(), bytes.size());
}

std::unique_ptr<WeightSource> MemoryPoints::point(std::size_t number, std::string name) const {
    return std::make_unique<Point>(*this, number, std::move(name));
}

}  // namespace aimerge
