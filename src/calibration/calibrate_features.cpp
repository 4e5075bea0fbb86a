#include "aimerge/calibration/featcal.h"

#include "aimerge/calibration/featcal_cost.h"
#include "aimerge/core/error.h"
#include "aimerge/device/profiler_range.h"
#include "aimerge/model/decoder.h"
#include "aimerge/model/weight_loader.h"
#include "calibration/feature_sums.h"
#include "calibration/feature_system.h"
#include "calibration/layer_states.h"
#include "calibration/torch_threads.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

namespace aimerge {
namespace {

constexpr int kSumsTag = 14;

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

std::int64_t stepsOf(const FeatcalTeacher& teacher) {
    return (teacher.blocks.blocks + teacher.microBatch - 1) / teacher.microBatch;
}

std::int64_t tokensOf(std::span<const FeatcalTeacher> teachers) {
    std::int64_t tokens = 0;
    for (const FeatcalTeacher& teacher : teachers) tokens += teacher.blocks.blocks * teacher.blocks.length;
    return tokens;
}

/// A forward step of this rank.
struct LocalStep {
    std::size_t teacher = 0;
    std::int64_t firstBlock = 0, sequences = 0;
};

/// The parts that a rank takes of all ranks' parts: consecutive ones, as many as the others or one more.
std::span<const TextPart> partsOfRank(std::span<const TextPart> parts, int rank, int ranks) {
    if (rank >= ranks) return {};
    const auto firstOf = [&](int r) { return parts.size() * static_cast<std::size_t>(r) / static_cast<std::size_t>(ranks); };
    return parts.subspan(firstOf(rank), firstOf(rank + 1) - firstOf(rank));
}

/// A point of a layer with modules that are fitted.
struct Stop {
    ActivationPoint point{};
    bool isNorm = false;
    std::vector<std::size_t> fitted;   // of the point's modules
    std::vector<std::string> modules;  // their names
};

at::ScalarType scalarTypeOf(Dtype dtype) {
    return dtype == Dtype::F32 ? at::kFloat : dtype == Dtype::F16 ? at::kHalf : at::kBFloat16;
}

bool isFinite(const at::Tensor& values) {
    return values.isfinite().all().item<bool>();
}

/// @throws InputError naming a tensor of the model that holds NaN or infinity, if one does
void requireFiniteWeights(const WeightSource& model, const std::vector<std::string>& tensors) {
    for (const std::string& name : tensors) {
        const TensorInfo* const tensor = model.find(name);
        if (tensor && !isFinite(loadTensor(model, *tensor, at::kFloat, at::kCPU)))
            throw InputError("{}: tensor {} holds NaN or infinity; nothing can be fitted to this model", model.name(), name);
    }
}

at::Tensor tensorOf(const std::string& bytes, Dtype dtype, const Shape& shape) {
    at::Tensor tensor = at::empty(shape, scalarTypeOf(dtype));
    std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    return tensor;
}

class FeatcalRun {
public:
    FeatcalRun(World& world, const FeatcalJob& job)
        : world_(world),
          job_(job),
          parts_(textParts(job.teachers, job.device.isGpu())),
          sharers_(ranksWithTexts(tokensOf(job.teachers), world.size(), job.device.isGpu())),
          own_(partsOfRank(parts_, world.rank(), sharers_)),
          points_(job.target.points()) {
        std::int64_t longest = 0;
        for (const FeatcalTeacher& teacher : job.teachers) longest = std::max(longest, teacher.blocks.length);
        for (const FeatcalTeacher& teacher : job.teachers)
            teachers_.push_back(std::make_unique<Decoder>(teacher.model, job.dtype, longest, job.device));
        for (std::size_t point = 0; point < points_; ++point) {
            const std::unique_ptr<WeightSource> embedding = job.target.embedding(point);
            configs_.push_back(std::make_unique<ConfigAlone>(*embedding));
            students_.push_back(std::make_unique<Decoder>(*configs_.back(), job.dtype, longest, job.device));
        }
        layers_ = students_.front()->layers();
        for (const TextPart& part : own_)
            for (std::int64_t step = part.firstStep; step < part.endStep; ++step) {
                const FeatcalTeacher& teacher = job.teachers[part.teacher];
                const std::int64_t first = step * teacher.microBatch;
                steps_.push_back({part.teacher, first, std::min(teacher.microBatch, teacher.blocks.blocks - first)});
            }
        states_.emplace(steps_.size() * (1 + points_), largestStateBytes(), placeOfStates());
    }

    FeatcalResult run() {
        std::int64_t finished = world_.isRoot() ? job_.target.finishedLayers() : 0;
        finished = world_.maximum(finished);
        if (finished == layers_) return {};
        const auto passes = static_cast<std::uint64_t>(layers_ * kPassesOfLayer);
        Progress progress(job_.progress, "featcal", "passes", passes, 0);
        progress_ = &progress;
        enterTexts();
        for (std::int64_t layer = 0; layer < layers_; ++layer) {
            loadLayer(layer);
            passesDone_ = 0;
            if (layer < finished)
                takeOver(layer);
            else
                fitLayer(layer);
            leaveLayer(layer);
            pass(kPassesOfLayer);
        }
        progress.finish();
        FeatcalResult result;
        for (const auto& teacher : teachers_) result.bytesRead += teacher->bytesRead();
        return result;
    }

private:
    static constexpr int kPassesOfLayer = 5;  // at most: to the inputs of four groups of layers, and out of the layer

    // ---- texts

    /// Hidden state, and the widest that stands beside it.
    std::uint64_t largestStateBytes() const {
        const ModelConfig& config = students_.front()->config();
        const std::int64_t attention = (2 * config.heads + 2 * config.keyValueHeads) * config.headDim;
        const std::int64_t width = config.hiddenSize + std::max(config.intermediateSize, attention);
        std::int64_t tokens = 0;
        for (const LocalStep& step : steps_)
            tokens = std::max(tokens, step.sequences * job_.teachers[step.teacher].blocks.length);
        return static_cast<std::uint64_t>(tokens * width) * bytesPerElement(job_.dtype);
    }

    LayerStates::Where placeOfStates() const {
        if (!job_.keepsStatesOnDisk) return LayerStates::Where::Device;
        return job_.device.isGpu() ? LayerStates::Where::HostMemory : LayerStates::Where::Disk;
    }

    std::span<const std::int32_t> idsOf(const LocalStep& step) const {
        const TokenBlocks& blocks = job_.teachers[step.teacher].blocks;
        return std::span(blocks.ids)
            .subspan(static_cast<std::size_t>(step.firstBlock * blocks.length),
                     static_cast<std::size_t>(step.sequences * blocks.length));
    }

    std::size_t teacherState(std::size_t step) const { return step * (1 + points_); }
    std::size_t studentState(std::size_t step, std::size_t point) const { return teacherState(step) + 1 + point; }

    void enterTexts() {
        for (std::size_t s = 0; s < steps_.size(); ++s) enter(*teachers_[steps_[s].teacher], s, teacherState(s));
        for (std::size_t point = 0; point < points_; ++point) {
            const std::unique_ptr<WeightSource> embedding = job_.target.embedding(point);
            const Decoder merged(*embedding, job_.dtype, 1, job_.device);
            for (std::size_t s = 0; s < steps_.size(); ++s) enter(merged, s, studentState(s, point));
        }
    }

    void enter(const Decoder& model, std::size_t step, std::size_t state) {
        at::Tensor hidden = model.emptyHidden(steps_[step].sequences, job_.teachers[steps_[step].teacher].blocks.length);
        model.embed(idsOf(steps_[step]), hidden);
        states_->put(state, model.enterLayer(hidden));
    }

    /// Calls work(step) for every step of this rank.
    template <typename Work>
    void overSteps(const Work& work) {
        for (std::size_t step = 0; step < steps_.size(); ++step) {
            if (job_.safePoint) job_.safePoint();
            world_.throwIfPeerFailed();
            work(step);
        }
    }

    template <typename Change>
    void changeState(std::size_t number, const Change& change) {
        LayerState state = states_->take(number, teachers_.front()->device());
        change(state);
        states_->put(number, std::move(state));
    }

    // ---- layers

    void loadLayer(std::int64_t layer) {
        const ProfilerRange range("read weights");
        taught_.assign(job_.teachers.size(), {});
        for (const TextPart& part : own_)
            if (!taught_[part.teacher].inputNorm.defined())
                taught_[part.teacher] = teachers_[part.teacher]->loadLayer(layer);
        merged_.clear();
        exact_.clear();
        weights_.clear();
        for (std::size_t point = 0; point < points_; ++point) {
            merged_.push_back(job_.target.layer(point, layer));
            weights_.push_back(Decoder(*merged_.back(), job_.dtype, 1, job_.device).loadLayer(layer));
            if (world_.isRoot()) exact_.push_back(job_.target.exactLayer(point, layer));
        }
        areTaughtAhead_ = false;
    }

    std::vector<Stop> stopsOf(std::int64_t layer) {
        std::vector<Stop> stops;
        for (const ActivationPoint point : students_.front()->points()) {
            Stop stop{.point = point, .isNorm = normAt(point, weights_.front()) != nullptr, .fitted = {}, .modules = {}};
            const std::vector<std::string> modules = modulesAt(point, layer);
            for (std::size_t m = 0; m < modules.size(); ++m)
                if (job_.target.fits(modules[m])) stop.fitted.push_back(m), stop.modules.push_back(modules[m]);
            if (!stop.fitted.empty()) stops.push_back(std::move(stop));
        }
        return stops;
    }

    void fitLayer(std::int64_t layer) {
        for (const Stop& stop : stopsOf(layer)) {
            if (stop.isNorm && !differs(stop)) {
                for (std::size_t point = 0; point < points_; ++point) keepMerged(point, stop.modules.front() + ".weight");
                continue;
            }
            std::vector<std::vector<PartTree>> sums = gather(layer, stop);
            for (std::size_t point = 0; point < points_; ++point)
                stop.isNorm ? fitNorm(stop, point, sums[point]) : fitLinearLayers(stop, point, sums[point]);
            if (!stop.isNorm) pass(1);
        }
    }

    /// What an earlier run has fitted.
    void takeOver(std::int64_t layer) {
        for (const Stop& stop : stopsOf(layer))
            for (std::size_t point = 0; point < points_; ++point)
                for (std::size_t k = 0; k < stop.modules.size(); ++k) {
                    const std::string name = stop.modules[k] + ".weight", bias = stop.modules[k] + ".bias";
                    use(stop, point, k, share(point, name), share(point, bias));
                }
    }

    /// Collective. The stored bytes of a tensor of the merged layer; nothing when there is none.
    std::string share(std::size_t point, const std::string& tensor) {
        if (!merged_[point]->find(tensor)) return {};
        return world_.broadcast(world_.isRoot() ? job_.target.stored(point, tensor) : "");
    }

    void leaveLayer(std::int64_t layer) {
        overSteps([&](std::size_t s) {
            const auto leave = [&](const Decoder& model, const LayerWeights& weights, LayerState& state) {
                do model.advance(layer, weights, state);
                while (state.point != ActivationPoint::InputNorm);
            };
            const std::size_t teacher = steps_[s].teacher;
            changeState(teacherState(s), [&](LayerState& state) {
                const bool hasLeft = areTaughtAhead_ && state.point == ActivationPoint::InputNorm;
                if (!hasLeft) leave(*teachers_[teacher], taught_[teacher], state);
            });
            for (std::size_t point = 0; point < points_; ++point)
                changeState(studentState(s, point),
                            [&](LayerState& state) { leave(*students_[point], weights_[point], state); });
        });
    }

    // ---- sums

    /// Takes all steps to the stop, and sums up there. @return per point and teacher
    std::vector<std::vector<PartTree>> gather(std::int64_t layer, const Stop& stop) {
        const ProfilerRange range("featcal sums");
        std::vector<std::vector<PartTree>> trees(points_, std::vector<PartTree>(job_.teachers.size()));
        std::size_t part = 0;
        std::vector<FeatureSums> sums;
        overSteps([&](std::size_t s) {
            while (stepsBefore(part + 1) <= s) ++part;
            if (s == stepsBefore(part)) {
                sums.clear();
                for (std::size_t point = 0; point < points_; ++point) sums.push_back(emptySums(stop));
            }
            std::vector<at::Tensor> taught;
            std::size_t teacher = steps_[s].teacher;
            LayerState own;
            if (!stop.isNorm) {
                own = states_->take(teacherState(s), students_.front()->device());
                while (own.point != stop.point) teachers_[teacher]->advance(layer, taught_[teacher], own);
            }
            const at::Tensor taughtInput = own.input;
            if (!stop.isNorm) {
                teachers_[teacher]->advance(layer, taught_[teacher], own, &taught);
                states_->put(teacherState(s), std::move(own));
            }
            for (std::size_t point = 0; point < points_; ++point)
                changeState(studentState(s, point), [&](LayerState& state) {
                    while (state.point != stop.point) students_[point]->advance(layer, weights_[point], state);
                    if (stop.isNorm)
                        sums[point].addNorm(state.input, students_[point]->config().rmsNormEps);
                    else
                        sums[point].addLinear(state.input, wantedOutputs(stop, teacher, taughtInput, state.input, taught));
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
    std::size_t stepsBefore(std::size_t parts) const {
        std::int64_t steps = 0;
        for (std::size_t p = 0; p < parts; ++p) steps += own_[p].endStep - own_[p].firstStep;
        return static_cast<std::size_t>(steps);
    }

    FeatureSums emptySums(const Stop& stop) {
        const at::Device device = students_.front()->device();
        if (stop.isNorm) return FeatureSums::ofNorm(normAt(stop.point, weights_.front())->size(0), device);
        const std::vector<LinearWeights*> layers = linearLayersAt(stop.point, weights_.front());
        return FeatureSums::ofLinearLayers(layers.front()->weight.size(1), outputsOf(stop), hasBiases(stop), device);
    }

    /// Whether any model has one.
    bool hasBiases(const Stop& stop) const {
        return std::ranges::any_of(stop.modules, [&](const std::string& module) {
            const std::string name = module + ".bias";
            return merged_.front()->find(name) != nullptr || std::ranges::any_of(job_.teachers, [&](const auto& teacher) {
                       return teacher.model.find(name) != nullptr;
                   });
        });
    }

    std::int64_t outputsOf(const Stop& stop) {
        std::int64_t outputs = 0;
        for (const std::size_t m : stop.fitted) outputs += linearLayersAt(stop.point, weights_.front())[m]->weight.size(0);
        return outputs;
    }

    /// What the teacher's layers give for alpha x_i + (1 - alpha) x_s. @param taught what they gave for x_i
    std::vector<at::Tensor> wantedOutputs(const Stop& stop, std::size_t teacher, const at::Tensor& taughtInput,
                                          const at::Tensor& input, const std::vector<at::Tensor>& taught) {
        std::vector<at::Tensor> wanted;
        if (job_.alpha == 1) {
            for (const std::size_t m : stop.fitted) wanted.push_back(taught[m]);
            return wanted;
        }
        const at::Tensor mixed = at::lerp(input.to(at::kFloat), taughtInput.to(at::kFloat), job_.alpha).to(input.dtype());
        const std::vector<LinearWeights*> layers = linearLayersAt(stop.point, taught_[teacher]);
        for (const std::size_t m : stop.fitted) wanted.push_back(at::linear(mixed, layers[m]->weight, layers[m]->bias));
        return wanted;
    }

    /// Collective. On rank 0 the sums over all of a teacher's texts; others send what they have.
    std::optional<FeatureSums> total(const Stop& stop, std::size_t teacher, PartTree& own) {
        if (!world_.isRoot()) {
            for (const PartTree::Node& node : own.nodes()) {
                const at::Tensor values = node.values.cpu();
                world_.send(0, kSumsTag, {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()}).wait();
            }
            return std::nullopt;
        }
        FeatureSums sums = emptySums(stop);
        for (int rank = 1; rank < sharers_; ++rank)
            for (const auto& [first, count] : nodesOf(rank, teacher)) {
                at::Tensor values = at::empty({sums.size()}, at::kDouble);
                world_.receive(rank, kSumsTag, {static_cast<std::byte*>(values.data_ptr()), values.nbytes()}).wait();
                own.insert({first, count, values.to(students_.front()->device())});
            }
        sums.take(own.total());
        if (!sums.values().sum().isfinite().item<bool>()) {
            requireFiniteModels();
            throw InputError(
                "{}: on its texts, what enters {} in the merged model or leaves it in this one is infinite, or beyond what "
                "float32 can hold squared",
                job_.teachers[teacher].model.name(), stop.modules.front());
        }
        return sums;
    }

    /// Of a rank's parts of a teacher's texts.
    std::vector<std::pair<int, int>> nodesOf(int rank, std::size_t teacher) const {
        int first = 0, end = 0;
        for (const TextPart& part : partsOfRank(parts_, rank, sharers_)) {
            if (part.teacher != teacher) continue;
            if (end == 0) first = part.number;
            end = part.number + 1;
        }
        return PartTree::nodesOf(first, end);
    }

    /// When something is not finite. @throws InputError where it comes from the models' weights
    void requireFiniteModels() const {
        std::vector<std::string> tensors{kEmbeddingName};
        for (std::int64_t layer = 0; layer < layers_; ++layer)
            for (const ActivationPoint point : students_.front()->points())
                for (const std::string& module : modulesAt(point, layer))
                    for (const char* kind : {".weight", ".bias"}) tensors.push_back(module + kind);
        if (job_.base) requireFiniteWeights(*job_.base, tensors);
        for (const FeatcalTeacher& teacher : job_.teachers) requireFiniteWeights(teacher.model, tensors);
    }

    // ---- solutions

    /// Float32, on the device that solves.
    at::Tensor read(const WeightSource& source, const std::string& tensor, const Shape& shape) const {
        return loadTensor(source, requireTensor(source, tensor, shape), at::kFloat, students_.front()->device());
    }

    /// On rank 0: rho W_merged + (1 - rho) W_base, in float64, or as float32 where that holds it.
    at::Tensor towards(std::size_t point, const std::string& tensor, const Shape& shape) const {
        const at::Tensor merged = read(*exact_[point], tensor, shape);
        if (job_.rho == 1) return merged;
        return merged.to(at::kDouble).mul_(job_.rho).add_(read(*job_.base, tensor, shape), 1 - job_.rho);
    }

    void fitLinearLayers(const Stop& stop, std::size_t point, std::vector<PartTree>& trees) {
        const ProfilerRange range("featcal solution");
        std::vector<std::pair<at::Tensor, at::Tensor>> solved;  // weight, bias, per module
        std::optional<FeatureSystem> system;
        const std::vector<LinearWeights*> layers = linearLayersAt(stop.point, weights_[point]);
        const std::int64_t inputs = layers.front()->weight.size(1), outputs = outputsOf(stop);
        if (world_.isRoot()) system.emplace(inputs, outputs, students_.front()->device());
        for (std::size_t t = 0; t < job_.teachers.size(); ++t) {
            const std::optional<FeatureSums> sums = total(stop, t, trees[t]);
            if (sums) system->add(*sums, biasesOf(stop, t, outputs), job_.teachers[t].weight);
        }
        if (world_.isRoot()) solved = solve(stop, point, *system);
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const auto [weight, bias] = world_.isRoot() ? solved[k] : std::pair<at::Tensor, at::Tensor>{};
            const std::string name = stop.modules[k] + ".weight", biasName = stop.modules[k] + ".bias";
            const std::string weightBytes = deliver(point, name, weight);
            std::string biasBytes;
            if (merged_[point]->find(biasName)) {
                biasBytes = deliver(point, biasName, bias);
            }
            use(stop, point, k, weightBytes, biasBytes);
        }
    }

    /// The teacher's, [outputs] in float64; zero where it has none, undefined where no model has any.
    at::Tensor biasesOf(const Stop& stop, std::size_t teacher, std::int64_t outputs) {
        if (!hasBiases(stop)) return {};
        const at::Tensor biases = at::zeros({outputs}, at::TensorOptions(at::kDouble).device(students_.front()->device()));
        std::int64_t first = 0;
        const WeightSource& model = job_.teachers[teacher].model;
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const std::int64_t count = linearLayersAt(stop.point, weights_.front())[stop.fitted[k]]->weight.size(0);
            if (const TensorInfo* bias = model.find(stop.modules[k] + ".bias"))
                biases.narrow(0, first, count).copy_(loadTensor(model, *bias, scalarTypeOf(job_.dtype), at::kCPU));
            first += count;
        }
        return biases;
    }

    std::vector<std::pair<at::Tensor, at::Tensor>> solve(const Stop& stop, std::size_t point, FeatureSystem& system) {
        const std::vector<LinearWeights*> layers = linearLayersAt(stop.point, weights_[point]);
        std::vector<at::Tensor> weights, biases;
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const at::Tensor& weight = layers[stop.fitted[k]]->weight;
            weights.push_back(towards(point, stop.modules[k] + ".weight", weight.sizes().vec()));
            const bool hasBias = merged_[point]->find(stop.modules[k] + ".bias") != nullptr;
            biases.push_back(hasBias ? towards(point, stop.modules[k] + ".bias", {weight.size(0)}).to(at::kDouble)
                                     : at::zeros({weight.size(0)}, weights.back().options().dtype(at::kDouble)));
        }
        const std::optional<at::Tensor> solution = system.solveWeights(job_.lambda, weights);
        if (!solution)
            throw InputError(
                "{}: the inputs on the experts' texts leave a singular matrix beside featcal.lambda {}; set it "
                "higher",
                stop.modules.front(), job_.lambda);
        const at::Tensor solvedBiases = system.solveBiases(job_.lambda, *solution, at::cat(biases, 0));
        std::vector<std::pair<at::Tensor, at::Tensor>> solved;
        std::int64_t first = 0;
        for (const at::Tensor& weight : weights) {
            const std::int64_t count = weight.size(0);
            solved.emplace_back(solution->narrow(0, first, count), solvedBiases.narrow(0, first, count));
            first += count;
        }
        return solved;
    }

    /// Collective. Whether the norms of all models are not the merged one, which then is what would be solved.
    bool differs(const Stop& stop) {
        bool differs = false;
        const std::string name = stop.modules.front() + ".weight";
        if (world_.isRoot()) {
            const Shape shape = normAt(stop.point, weights_.front())->sizes().vec();
            const at::Tensor merged = read(*exact_.front(), name, shape).to(at::kDouble);
            const auto look = [&](const at::Tensor& norm) { differs = differs || !merged.equal(norm.to(at::kDouble)); };
            for (std::size_t point = 0; point < points_; ++point) {
                look(read(*exact_[point], name, shape));
                look(towards(point, name, shape));
            }
            for (const FeatcalTeacher& teacher : job_.teachers) look(read(teacher.model, name, shape));
        }
        return world_.any(differs);
    }

    void fitNorm(const Stop& stop, std::size_t point, std::vector<PartTree>& trees) {
        const std::string name = stop.modules.front() + ".weight";
        const Shape shape = normAt(stop.point, weights_[point])->sizes().vec();
        NormSystem system(shape.front());
        for (std::size_t t = 0; t < job_.teachers.size(); ++t)
            if (const std::optional<FeatureSums> sums = total(stop, t, trees[t]))
                system.add(*sums, read(job_.teachers[t].model, name, shape).cpu().to(at::kDouble), job_.teachers[t].weight);
        const at::Tensor solved =
            world_.isRoot() ? system.solve(job_.lambda, towards(point, name, shape).cpu().to(at::kDouble)) : at::Tensor();
        use(stop, point, 0, deliver(point, name, solved), {});
    }

    void keepMerged(std::size_t point, const std::string& tensor) {
        const TensorInfo& info = *merged_[point]->find(tensor);
        std::string bytes(info.bytes.size(), '\0');
        merged_[point]->read(info, 0, std::as_writable_bytes(std::span(bytes)));
        job_.target.store(point, tensor, bytes);
    }

    std::string storedBytes(std::size_t point, const std::string& tensor, const at::Tensor& values) const {
        const Dtype dtype = merged_[point]->find(tensor)->dtype;
        const at::Tensor stored = values.to(at::kFloat).cpu().contiguous().to(scalarTypeOf(dtype));
        if (!isFinite(stored)) {
            requireFiniteModels();
            throw InputError("{}: a fitted value is beyond what {} can hold; write the output in another dtype", tensor,
                             torchName(dtype));
        }
        return {static_cast<const char*>(stored.const_data_ptr()), stored.nbytes()};
    }

    /// Collective. Rank 0's tensor in the dtype in which it is stored, to where it is stored.
    std::string deliver(std::size_t point, const std::string& tensor, const at::Tensor& values) {
        std::string bytes = world_.broadcast(world_.isRoot() ? storedBytes(point, tensor, values) : "");
        job_.target.store(point, tensor, bytes);
        return bytes;
    }

    /// The student goes on with what is stored. @param bias empty where there is none
    void use(const Stop& stop, std::size_t point, std::size_t number, const std::string& weight, const std::string& bias) {
        const auto asUsed = [&](const std::string& name, const std::string& bytes) {
            const TensorInfo& info = *merged_[point]->find(name);
            return tensorOf(bytes, info.dtype, info.shape).to(scalarTypeOf(job_.dtype)).to(students_.front()->device());
        };
        const std::string& module = stop.modules[number];
        if (stop.isNorm) {
            *normAt(stop.point, weights_[point]) = asUsed(module + ".weight", weight);
            return;
        }
        LinearWeights& layer = *linearLayersAt(stop.point, weights_[point])[stop.fitted[number]];
        layer.weight = asUsed(module + ".weight", weight);
        if (!bias.empty()) layer.bias = asUsed(module + ".bias", bias);
    }

    void pass(int passes) {
        const int more = std::min(passes, kPassesOfLayer - passesDone_);
        passesDone_ += more;
        progress_->advance(static_cast<std::uint64_t>(more), 0);
    }

    World& world_;
    const FeatcalJob& job_;
    std::vector<TextPart> parts_;
    int sharers_;  // ranks with texts
    std::span<const TextPart> own_;
    std::size_t points_;
    std::int64_t layers_ = 0;
    std::vector<LocalStep> steps_;
    std::vector<std::unique_ptr<Decoder>> teachers_;
    std::vector<std::unique_ptr<ConfigAlone>> configs_;
    std::vector<std::unique_ptr<Decoder>> students_;  // per point
    std::optional<LayerStates> states_;

    // Of the layer in work.
    std::vector<LayerWeights> taught_;                           // per teacher, where this rank has texts of it
    std::vector<std::unique_ptr<WeightSource>> merged_, exact_;  // per point
    std::vector<LayerWeights> weights_;  // per point: what is fitted already, and what is still merged
    bool areTaughtAhead_ = false;        // the teachers stand one point behind the last stop

    Progress* progress_ = nullptr;
    int passesDone_ = 0;
};

}  // namespace

std::vector<TextPart> textParts(std::span<const FeatcalTeacher> teachers, bool onGpu) {
    constexpr std::int64_t kMostParts = 8;
    std::vector<TextPart> parts;
    for (std::size_t t = 0; t < teachers.size(); ++t) {
        const std::int64_t steps = stepsOf(teachers[t]);
        const std::int64_t wanted =
            std::clamp<std::int64_t>(tokensOf(teachers.subspan(t, 1)) / fewestTokensOfPart(onGpu), 1, kMostParts);
        // A power of two: the sums of all parts are then one node of their tree, whoever has them.
        const auto count = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::min(wanted, steps))));
        for (std::int64_t p = 0; p < count; ++p)
            parts.push_back({t, static_cast<int>(p), steps * p / count, steps * (p + 1) / count});
    }
    return parts;
}

FeatcalResult calibrateFeatures(World& world, const FeatcalJob& job) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    return FeatcalRun(world, job).run();
}

}  // namespace aimerge
