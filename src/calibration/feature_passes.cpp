#include "calibration/feature_passes.h"

#include "aimerge/device/profiler_range.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

/// A model without weights: how sequences pass its layers is known from its config.json.
class ConfigAlone : public WeightSource {
public:
    explicit ConfigAlone(const WeightSource& model) : name_(model.name()), config_(model.modelConfig()) {}

    const std::string& name() const override { return name_; }
    const ModelConfig& modelConfig() const override { return config_; }
    const TensorInfo* find(std::string_view /*name*/) const override { return nullptr; }
    void read(const TensorInfo& /*tensor*/, std::uint64_t /*offset*/, std::span<std::byte> /*out*/) const override {}

private:
    std::string name_;
    ModelConfig config_;
};

}  // namespace

FeatureSums Stop::sums(at::Device device) const {
    return isNorm ? FeatureSums::ofNorm(inputs, device) : FeatureSums::ofLinearLayers(inputs, outputs, hasBiases, device);
}

FeaturePasses::FeaturePasses(World& world, const FeatcalJob& job, std::span<const TextPart> own)
    : world_(world), job_(job), own_(own), points_(job.target.points()) {
    std::int64_t longest = 0;
    for (const FeatcalTeacher& teacher : job.teachers) longest = std::max(longest, teacher.blocks.length);
    for (const FeatcalTeacher& teacher : job.teachers)
        teachers_.push_back(std::make_unique<Decoder>(teacher.model, job.dtype, longest, job.device));
    for (std::size_t point = 0; point < points_; ++point) {
        const std::unique_ptr<WeightSource> embedding = job.target.embedding(point);
        configs_.push_back(std::make_unique<ConfigAlone>(*embedding));
        students_.push_back(std::make_unique<Decoder>(*configs_.back(), job.dtype, longest, job.device));
    }
    for (const TextPart& part : own_)
        for (std::int64_t step = part.firstStep; step < part.endStep; ++step) {
            const FeatcalTeacher& teacher = job.teachers[part.teacher];
            const std::int64_t first = step * teacher.microBatch;
            steps_.push_back({part.teacher, first, std::min(teacher.microBatch, teacher.blocks.blocks - first)});
        }
    states_.emplace(steps_.size() * (1 + points_), largestStateBytes(), placeOfStates());
}

std::uint64_t FeaturePasses::bytesRead() const {
    std::uint64_t bytes = 0;
    for (const auto& teacher : teachers_) bytes += teacher->bytesRead();
    return bytes;
}

void FeaturePasses::loadTeachers(std::int64_t layer) {
    const ProfilerRange range("read weights");
    taught_.assign(job_.teachers.size(), {});
    for (const TextPart& part : own_)
        if (taught_[part.teacher].empty()) taught_[part.teacher] = teachers_[part.teacher]->loadLayer(layer);
    areTaughtAhead_ = false;
}

/// Hidden state, and the widest that stands beside it.
std::uint64_t FeaturePasses::largestStateBytes() const {
    const std::int64_t width =
        students_.front()->hiddenSize() + students_.front()->description().mostOfLayer(&LayerDescription::widestState);
    std::int64_t tokens = 0;
    for (const Step& step : steps_) tokens = std::max(tokens, step.sequences * job_.teachers[step.teacher].blocks.length);
    return static_cast<std::uint64_t>(tokens * width) * bytesPerElement(job_.dtype);
}

LayerStates::Where FeaturePasses::placeOfStates() const {
    if (!job_.keepsStatesOnDisk) return LayerStates::Where::Device;
    return job_.device.isGpu() ? LayerStates::Where::HostMemory : LayerStates::Where::Disk;
}

std::span<const std::int32_t> FeaturePasses::idsOf(const Step& step) const {
    const TokenBlocks& blocks = job_.teachers[step.teacher].blocks;
    return std::span(blocks.ids)
        .subspan(static_cast<std::size_t>(step.firstBlock * blocks.length),
                 static_cast<std::size_t>(step.sequences * blocks.length));
}

void FeaturePasses::enterTexts() {
    for (std::size_t s = 0; s < steps_.size(); ++s) enter(*teachers_[steps_[s].teacher], s, teacherState(s));
    for (std::size_t point = 0; point < points_; ++point) {
        const std::unique_ptr<WeightSource> embedding = job_.target.embedding(point);
        const Decoder merged(*embedding, job_.dtype, 1, job_.device);
        for (std::size_t s = 0; s < steps_.size(); ++s) enter(merged, s, studentState(s, point));
    }
}

void FeaturePasses::enter(const Decoder& model, std::size_t step, std::size_t state) {
    at::Tensor hidden = model.emptyHidden(steps_[step].sequences, job_.teachers[steps_[step].teacher].blocks.length);
    model.embed(idsOf(steps_[step]), hidden);
    LayerState entering;
    entering.hidden = hidden;
    states_->put(state, std::move(entering));
}

/// Calls work(step) for every step of this rank.
template <typename Work>
void FeaturePasses::overSteps(const Work& work) {
    for (std::size_t step = 0; step < steps_.size(); ++step) {
        if (job_.safePoint) job_.safePoint();
        world_.throwIfPeerFailed();
        work(step);
    }
}

template <typename Change>
void FeaturePasses::changeState(std::size_t number, const Change& change) {
    LayerState state = states_->take(number, teachers_.front()->device());
    change(state);
    states_->put(number, std::move(state));
}

void FeaturePasses::leaveLayer(std::int64_t layer, const std::vector<LoadedLayer>& merged) {
    overSteps([&](std::size_t s) {
        const auto leave = [&](const Decoder& model, const LoadedLayer& weights, LayerState& state) {
            do model.advance(layer, weights, state);
            while (state.number != 0);
        };
        const std::size_t teacher = steps_[s].teacher;
        changeState(teacherState(s), [&](LayerState& state) {
            const bool hasLeft = areTaughtAhead_ && state.number == 0;
            if (!hasLeft) leave(*teachers_[teacher], taught_[teacher], state);
        });
        for (std::size_t point = 0; point < points_; ++point)
            changeState(studentState(s, point), [&](LayerState& state) { leave(*students_[point], merged[point], state); });
    });
}

/// Takes the step's teacher to the stop, and on to the next input.
FeaturePasses::Taught FeaturePasses::teach(std::int64_t layer, const Stop& stop, std::size_t step) {
    const std::size_t number = steps_[step].teacher;
    const Decoder& teacher = *teachers_[number];
    Taught taught;
    changeState(teacherState(step), [&](LayerState& state) {
        while (state.number != stop.number) teacher.advance(layer, taught_[number], state);
        taught.input = teacher.inputAt(layer, state);
        teacher.advance(layer, taught_[number], state, &taught.outputs);
    });
    return taught;
}

std::vector<std::vector<PartTree>> FeaturePasses::gather(std::int64_t layer, const Stop& stop,
                                                         const std::vector<LoadedLayer>& merged) {
    const ProfilerRange range("featcal sums");
    std::vector<std::vector<PartTree>> trees(points_, std::vector<PartTree>(job_.teachers.size()));
    std::size_t part = 0;
    std::vector<FeatureSums> sums;
    overSteps([&](std::size_t s) {
        while (stepsBefore(part + 1) <= s) ++part;
        if (s == stepsBefore(part)) {
            sums.clear();
            for (std::size_t point = 0; point < points_; ++point) sums.push_back(stop.sums(decoder().device()));
        }
        const std::size_t teacher = steps_[s].teacher;
        const Taught taught = stop.isNorm ? Taught{} : teach(layer, stop, s);
        for (std::size_t point = 0; point < points_; ++point)
            changeState(studentState(s, point), [&](LayerState& state) {
                while (state.number != stop.number) students_[point]->advance(layer, merged[point], state);
                const at::Tensor input = students_[point]->inputAt(layer, state);
                if (stop.isNorm)
                    sums[point].addNorm(input, stop.eps);
                else
                    sums[point].addLinear(input, wantedOutputs(stop, teacher, input, taught));
            });
        if (s + 1 < stepsBefore(part + 1)) return;
        for (std::size_t point = 0; point < points_; ++point) {
            sums[point].finish();
            trees[point][teacher].insert({own_[part].number, 1, sums[point].values()});
        }
    });
    areTaughtAhead_ = areTaughtAhead_ || !stop.isNorm;
    return trees;
}

/// Steps of this rank's first parts.
std::size_t FeaturePasses::stepsBefore(std::size_t parts) const {
    std::int64_t steps = 0;
    for (std::size_t p = 0; p < parts; ++p) steps += own_[p].endStep - own_[p].firstStep;
    return static_cast<std::size_t>(steps);
}

/// What the teacher's layers give for alpha x_i + (1 - alpha) x_s. @param input x_s
std::vector<at::Tensor> FeaturePasses::wantedOutputs(const Stop& stop, std::size_t teacher, const at::Tensor& input,
                                                     const Taught& taught) {
    std::vector<at::Tensor> wanted;
    if (job_.alpha == 1) {
        for (const std::size_t m : stop.fitted) wanted.push_back(taught.outputs[m]);
        return wanted;
    }
    const at::Tensor mixed = at::lerp(input.to(at::kFloat), taught.input.to(at::kFloat), job_.alpha).to(input.dtype());
    for (const std::size_t m : stop.fitted) {
        const ModuleWeights& layer = taught_[teacher][stop.firstModule + m];
        wanted.push_back(at::linear(mixed, layer.weight, layer.bias));
    }
    return wanted;
}

}  // namespace aimerge
