#include "aimerge/calibration/featcal.h"

#include "aimerge/calibration/featcal_cost.h"
#include "aimerge/calibration/torch_threads.h"
#include "aimerge/core/error.h"
#include "aimerge/device/profiler_range.h"
#include "aimerge/model/decoder.h"
#include "aimerge/model/weight_loader.h"
#include "calibration/feature_passes.h"
#include "calibration/feature_system.h"
#include "calibration/text_parts.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace aimerge {
namespace {

constexpr int kSumsTag = 14;

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
          passes_(world, job, partsOfRank(parts_, world.rank(), sharers_)),
          points_(job.target.points()),
          layers_(passes_.decoder().layers()) {}

    FeatcalResult run() {
        std::int64_t finished = world_.isRoot() ? job_.target.finishedLayers() : 0;
        finished = world_.maximum(finished);
        if (finished == layers_) return {};
        const auto passes = static_cast<std::uint64_t>(layers_ * kPassesOfLayer);
        Progress progress(job_.progress, "featcal", "passes", passes, 0);
        progress_ = &progress;
        passes_.enterTexts();
        for (std::int64_t layer = 0; layer < layers_; ++layer) {
            loadLayer(layer);
            passesDone_ = 0;
            if (layer < finished)
                takeOver(layer);
            else
                fitLayer(layer);
            if (layer + 1 < layers_) passes_.leaveLayer(layer, weights_);
            pass(kPassesOfLayer);
        }
        progress.finish();
        return {passes_.bytesRead()};
    }

private:
    static constexpr int kPassesOfLayer = 5;  // at most: to the inputs of four groups of layers, and out of the layer

    // ---- layers

    void loadLayer(std::int64_t layer) {
        passes_.loadTeachers(layer);
        merged_.clear();
        exact_.clear();
        weights_.clear();
        for (std::size_t point = 0; point < points_; ++point) {
            merged_.push_back(job_.target.layer(point, layer));
            weights_.push_back(Decoder(*merged_.back(), job_.dtype, 1, job_.device).loadLayer(layer));
        }
    }

    std::vector<Stop> stopsOf(std::int64_t layer) {
        std::vector<Stop> stops;
        const LayerDescription& description = passes_.decoder().description().layers[static_cast<std::size_t>(layer)];
        const std::vector<ModuleDescription> modules = description.modules();
        std::int64_t number = 0;
        for (const InputDescription& input : description.inputs()) {
            const ModuleDescription& first = modules[input.firstModule];
            Stop stop{
                .number = number++, .firstModule = input.firstModule, .isNorm = first.isNorm, .fitted = {}, .modules = {}};
            stop.eps = passes_.decoder().config().rmsNormEps;
            stop.inputs = first.inputs();
            for (std::size_t m = 0; m < input.modules; ++m) {
                const ModuleDescription& module = modules[input.firstModule + m];
                const std::string name = passes_.decoder().description().moduleName(layer, module);
                if (!job_.target.fits(name)) continue;
                stop.fitted.push_back(m);
                stop.modules.push_back(name);
                if (!first.isNorm) stop.outputs += module.outputs();
                stop.hasBiases = stop.hasBiases || hasBias(name);
            }
            if (!stop.fitted.empty()) stops.push_back(std::move(stop));
        }
        return stops;
    }

    void fitLayer(std::int64_t layer) {
        for (std::size_t point = 0; world_.isRoot() && point < points_; ++point)
            exact_.push_back(job_.target.exactLayer(point, layer));
        for (const Stop& stop : stopsOf(layer)) {
            if (stop.isNorm && !differs(stop)) {
                for (std::size_t point = 0; point < points_; ++point) keepMerged(point, stop.modules.front() + ".weight");
                continue;
            }
            std::vector<std::vector<PartTree>> sums = passes_.gather(layer, stop, weights_);
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

    // ---- sums

    /// In any model.
    bool hasBias(const std::string& module) const {
        const std::string name = module + ".bias";
        return merged_.front()->find(name) != nullptr ||
               std::ranges::any_of(job_.teachers, [&](const auto& teacher) { return teacher.model.find(name) != nullptr; });
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
        FeatureSums sums = stop.sums(device());
        for (int rank = 1; rank < sharers_; ++rank)
            for (const auto& [first, count] : nodesOfTeacher(partsOfRank(parts_, rank, sharers_), teacher)) {
                at::Tensor values = at::empty({sums.size()}, at::kDouble);
                world_.receive(rank, kSumsTag, {static_cast<std::byte*>(values.data_ptr()), values.nbytes()}).wait();
                own.insert({first, count, values.to(device())});
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

    /// When something is not finite. @throws InputError where it comes from the models' weights
    void requireFiniteModels() const {
        const DecoderDescription& decoder = passes_.decoder().description();
        std::vector<std::string> tensors{decoder.embedding};
        for (std::int64_t layer = 0; layer < layers_; ++layer)
            for (const ModuleDescription& module : decoder.layers[static_cast<std::size_t>(layer)].modules())
                for (const char* kind : {".weight", ".bias", ""})
                    tensors.push_back(decoder.moduleName(layer, module) + kind);
        if (job_.base) requireFiniteWeights(*job_.base, tensors);
        for (const FeatcalTeacher& teacher : job_.teachers) requireFiniteWeights(teacher.model, tensors);
    }

    // ---- solutions

    at::Device device() const { return passes_.decoder().device(); }

    /// Float32, on the device that solves.
    at::Tensor read(const WeightSource& source, const std::string& tensor, const Shape& shape) const {
        return loadTensor(source, requireTensor(source, tensor, shape), at::kFloat, device());
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
        if (world_.isRoot()) system.emplace(stop.inputs, stop.outputs, device());
        for (std::size_t t = 0; t < job_.teachers.size(); ++t) {
            const std::optional<FeatureSums> sums = total(stop, t, trees[t]);
            if (sums) system->add(*sums, biasesOf(stop, t), job_.teachers[t].weight);
        }
        if (world_.isRoot()) solved = solve(stop, point, *system);
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const auto [weight, bias] = world_.isRoot() ? solved[k] : std::pair<at::Tensor, at::Tensor>{};
            const std::string name = stop.modules[k] + ".weight", biasName = stop.modules[k] + ".bias";
            const std::string weightBytes = deliver(point, name, weight);
            std::string biasBytes;
            if (merged_[point]->find(biasName)) biasBytes = deliver(point, biasName, bias);
            use(stop, point, k, weightBytes, biasBytes);
        }
    }

    /// The teacher's, [outputs] in float64; zero where it has none, undefined where no model has any.
    at::Tensor biasesOf(const Stop& stop, std::size_t teacher) {
        if (!stop.hasBiases) return {};
        const at::Tensor biases = at::zeros({stop.outputs}, at::TensorOptions(at::kDouble).device(device()));
        std::int64_t first = 0;
        const WeightSource& model = job_.teachers[teacher].model;
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const std::int64_t count = fitted(stop, 0, k).weight.size(0);
            if (const TensorInfo* bias = model.find(stop.modules[k] + ".bias"))
                biases.narrow(0, first, count).copy_(loadTensor(model, *bias, scalarTypeOf(job_.dtype), at::kCPU));
            first += count;
        }
        return biases;
    }

    std::vector<std::pair<at::Tensor, at::Tensor>> solve(const Stop& stop, std::size_t point, FeatureSystem& system) {
        std::vector<at::Tensor> weights, biases;
        for (std::size_t k = 0; k < stop.modules.size(); ++k) {
            const at::Tensor& weight = fitted(stop, point, k).weight;
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
            const Shape shape{stop.inputs};
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
        const Shape shape{stop.inputs};
        NormSystem system(stop.inputs);
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
            return tensorOf(bytes, info.dtype, info.shape).to(scalarTypeOf(job_.dtype)).to(device());
        };
        const std::string& module = stop.modules[number];
        ModuleWeights& layer = fitted(stop, point, number);
        layer.weight = asUsed(module + ".weight", weight);
        if (!bias.empty()) layer.bias = asUsed(module + ".bias", bias);
    }

    /// One of the stop's modules in a merged layer.
    ModuleWeights& fitted(const Stop& stop, std::size_t point, std::size_t number) {
        return weights_[point][stop.firstModule + stop.fitted[number]];
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
    FeaturePasses passes_;
    std::size_t points_;
    std::int64_t layers_;

    // What is known of the layer in work.
    std::vector<std::unique_ptr<WeightSource>> merged_, exact_;  // per point
    std::vector<LoadedLayer> weights_;  // per point: what is fitted already, and what is still merged

    Progress* progress_ = nullptr;
    int passesDone_ = 0;
};

}  // namespace

FeatcalResult calibrateFeatures(World& world, const FeatcalJob& job) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    return FeatcalRun(world, job).run();
}

}  // namespace aimerge
