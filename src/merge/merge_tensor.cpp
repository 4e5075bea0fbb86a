#include "aimerge/merge/merge_tensor.h"

#include "aimerge/core/error.h"
#include "aimerge/safetensors/tensor_digest.h"
#include "merge/combine/prepared_parts.h"
#include "merge/relaxation/importance.h"
#include "merge/selection/selection.h"
#include "merge/sources/convert.h"
#include "merge/sources/row_runs.h"
#include "merge/sources/tensor_reader.h"
#if AIMERGE_HAS_CUDA
#include "merge/device/device_lane.h"
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>

namespace aimerge {
namespace {

/// Blocks that a group of tensors has at least, per thread: the last blocks of a group leave some threads idle.
constexpr std::uint64_t kGroupBlocksPerThread = 8;

/// A kept preparation takes at most that share of its parameter: DARE's bits of three experts are 3/16 of bfloat16.
constexpr std::uint64_t kLargestKeptShare = 4;

/// No further tensor joins a group whose prepared parameters keep that much.
constexpr std::uint64_t kGroupHeldBytes = std::uint64_t{256} << 20;

/// What one thread works in.
struct Workplace {
    std::vector<std::vector<std::byte>> blocks;  // finished bytes, per point
    std::array<float, SourceWindow::kChunkElements> merged, relaxed, importance;
    std::vector<const float*> inputs;
#if AIMERGE_HAS_CUDA
    std::unique_ptr<DeviceLane> lane;  // made when first needed
    std::vector<RawValues> deviceInputs;
#endif
};

/// A tensor of the group that is being merged.
class TensorRun {
public:
    TensorRun(std::size_t number, const TensorMerge& tensor, std::span<const std::optional<double>> omegas,
              DeltaRounding rounding, ThreadPool& threads, std::span<SourceWindow> windows, std::span<Workplace> places,
              [[maybe_unused]] const Device& device)
        : number_(number),
          tensor_(tensor),
          elements_(elementCount(tensor.shape)),
          points_(std::max<std::size_t>(omegas.size(), 1)),
          sources_(tensor) {
        parts_ = tensor.parts;
        if (parts_.empty()) parts_.push_back({.name = tensor.name, .shape = tensor.shape});
        prepare(threads, windows);
        relaxesElements_ = tensor.elementImportance.has_value();
        if (tensor.elementImportance)
            for (const MatrixPart& part : parts_)
                largestImportance_.push_back(largestOf(*tensor.elementImportance->values, part, threads, windows));
        if (tensor.importance || tensor.elementImportance)
            for (const std::optional<double>& ofPoint : omegas) {
                const std::optional<double>& omega = tensor.omega ? tensor.omega : ofPoint;
                relaxations_.push_back(omega ? std::optional(relaxationFor(*omega, rounding)) : std::nullopt);
            }
        if (tensor.scalesWhole) scaleWhole(rounding, threads, windows, places);
#if AIMERGE_HAS_CUDA
        rounding_ = rounding;
        const bool isPlain = !tensor.importance || tensor.importance->layout.isPlain();
        const bool hasKernel = prepared_->runsOnDevice() && kernelsTakeInputs() && !tensor.elementImportance && isPlain;
        if (device.isGpu() && hasKernel) device_ = device;
#endif
    }

    static std::uint64_t blocksOf(const TensorMerge& tensor) {
        return digestBlocks(static_cast<std::uint64_t>(elementCount(tensor.shape)) * bytesPerElement(tensor.dtype));
    }

    std::uint64_t heldBytes() const {
        return prepared_->heldBytes();
    }

    void mergeBlock(std::uint64_t block, SourceWindow& window, Workplace& place, MergeSink& sink) const {
        const std::size_t width = bytesPerElement(tensor_.dtype);
        const auto blockElements = static_cast<std::int64_t>(kDigestBlockBytes / width);
        const std::int64_t begin = static_cast<std::int64_t>(block) * blockElements,
                           count = std::min(blockElements, elements_ - begin);
        const std::size_t outputs = std::max<std::size_t>(relaxations_.size(), 1);  // different ones
        const std::size_t bytes = static_cast<std::size_t>(count) * width;
#if AIMERGE_HAS_CUDA
        if (device_.isGpu() && mergeBlockOnDevice(block, begin, static_cast<std::size_t>(count), place, sink)) return;
#endif
        if (place.blocks.size() < outputs) place.blocks.resize(outputs);
        for (std::size_t i = 0; i < outputs; ++i)
            if (place.blocks[i].size() < bytes) place.blocks[i].resize(kDigestBlockBytes);

        window.walk(sources_.all(), begin, count,
                    [&](std::int64_t first, std::size_t size, std::span<const float* const> values) {
                        mergeChunk(first, size, values, static_cast<std::size_t>(first - begin) * width, place);
                    });
        for (std::size_t point = 0; point < points_; ++point) {
            const std::vector<std::byte>& finished = place.blocks[relaxations_.empty() ? 0 : point];
            sink.write(number_, point, block * kDigestBlockBytes, {finished.data(), bytes});
        }
    }

private:
    void prepare(ThreadPool& threads, std::span<SourceWindow> windows) {
        if (tensor_.kept) prepared_ = tensor_.kept->get();
        if (prepared_) return;
        std::vector<std::unique_ptr<PreparedParameter>> prepared;
        for (const MatrixPart& part : parts_) {
            TensorReader reader(tensor_, part, sources_, threads, windows);
            prepared.push_back(tensor_.method->prepare(reader, tensor_.parameters));
        }
        if (prepared.size() == 1)
            prepared_ = std::move(prepared.front());
        else
            prepared_ = std::make_shared<PreparedParts>(parts_, std::move(prepared));
        if (tensor_.kept)
            tensor_.kept->offer(prepared_, static_cast<std::uint64_t>(elements_) * bytesPerElement(tensor_.dtype));
    }

    Relaxation relaxationFor(double omega, DeltaRounding rounding) const {
        return tensor_.importance ? Relaxation(*tensor_.importance, omega, rounding) : Relaxation(omega, rounding);
    }

    float largestOf(const TensorSource& source, const MatrixPart& part, ThreadPool& threads,
                    std::span<SourceWindow> windows) const {
        const TensorSource* const sources[] = {&source};
        std::vector<float> largest(windows.size());
        walkSlabs(
            sources, part, threads, windows,
            [&](std::size_t, std::size_t worker, std::int64_t, std::size_t size, std::span<const float* const> values) {
                for (std::size_t i = 0; i < size; ++i) largest[worker] = std::max(largest[worker], values[0][i]);
            });
        return *std::ranges::max_element(largest);
    }

    static std::size_t slabs(const MatrixPart& part) {
        return static_cast<std::size_t>((elementCount(part.shape) + SourceWindow::kSlabElements - 1) /
                                        SourceWindow::kSlabElements);
    }

    /// The whole part, slab by slab on all threads: see(slab, worker, first element of the tensor, elements, values) for
    /// every chunk.
    template <typename See>
    void walkSlabs(std::span<const TensorSource* const> sources, const MatrixPart& part, ThreadPool& threads,
                   std::span<SourceWindow> windows, const See& see) const {
        const std::int64_t elements = elementCount(part.shape);
        threads.forEach(slabs(part), [&](std::size_t slab, int thread) {
            const auto worker = static_cast<std::size_t>(thread);
            const std::int64_t first = static_cast<std::int64_t>(slab) * SourceWindow::kSlabElements;
            windows[worker].walk(
                sources, part.first + first, std::min(SourceWindow::kSlabElements, elements - first),
                [&](std::int64_t at, std::size_t size, std::span<const float* const> values) {
                    see(slab, worker, at, size, values);
                },
                part.first);
        });
    }

#if AIMERGE_HAS_CUDA
    bool kernelsTakeInputs() const {
        const auto isTaken = [](const TensorSource* source) {
            return source->dtype() == Dtype::BF16 || source->dtype() == Dtype::F16 || source->dtype() == Dtype::F32;
        };
        return elements_ > 0 && tensor_.inputs.size() <= static_cast<std::size_t>(kMostUnrolledInputs) &&
               std::ranges::all_of(sources_.all(), isTaken);
    }

    /// 1 - A (1 - omega) of all points, on their way to the device.
    const float* placeFactors(DeviceCoefficients& coefficients) const {
        const auto channels = static_cast<std::size_t>(tensor_.shape.back());
        const std::span<float> factors = coefficients.make(relaxations_.size() * channels);
        for (std::size_t point = 0; point < relaxations_.size(); ++point) {
            const std::span<float> own = factors.subspan(point * channels, channels);
            if (relaxations_[point])
                std::ranges::copy(relaxations_[point]->factors(), own.begin());
            else
                std::ranges::fill(own, RawRelaxation::kAsMerged);
        }
        return coefficients.place();
    }

    /// @return false when a value is NaN or infinite, about which the host's walk throws
    bool mergeBlockOnDevice(std::uint64_t block, std::int64_t begin, std::size_t count, Workplace& place,
                            MergeSink& sink) const {
        if (!place.lane) {
            useDevice(device_);
            place.lane = std::make_unique<DeviceLane>();
        }
        const std::size_t outputs = std::max<std::size_t>(relaxations_.size(), 1),
                          bytes = count * bytesPerElement(tensor_.dtype);
        const std::span<const RawValues> values = place.lane->fetch(sources_.all(), begin, count);
        DeviceTile tile = place.lane->tile(outputs * bytes);
        sources_.inputsOf(values, place.deviceInputs);
        tile.base = sources_.methodBaseOf(values);
        tile.inputs = place.deviceInputs;
        tile.out.dtype = tensor_.dtype;
        tile.count = tile.pointStride = count;
        if (!relaxations_.empty()) {
            const auto channels = static_cast<std::size_t>(tensor_.shape.back());
            tile.relaxation = {outputs, channels, static_cast<std::size_t>(begin) % channels,
                               placeFactors(*tile.coefficients), rounding_};
            tile.relaxedFrom = sources_.baseOf(values);
        }
        prepared_->combineOnDevice(begin, tile);
        const std::byte* const finished = place.lane->finish(outputs * bytes);
        if (finished == nullptr) return false;
        for (std::size_t point = 0; point < points_; ++point)
            sink.write(number_, point, block * kDigestBlockBytes,
                       {finished + (relaxations_.empty() ? 0 : point * bytes), bytes});
        return true;
    }
#endif

    void mergeChunk(std::int64_t first, std::size_t size, std::span<const float* const> values, std::size_t offset,
                    Workplace& place) const {
        const std::span<const float> merged = combineChunk(first, size, values, place);
        if (relaxations_.empty()) return store(merged, place.blocks[0].data() + offset);
        for (std::size_t point = 0; point < relaxations_.size(); ++point) {
            const std::span<const float> finished =
                relaxations_[point] ? relaxChunk(*relaxations_[point], first, values, merged, place) : merged;
            store(finished, place.blocks[point].data() + offset);
        }
    }

    /// The merged values of a chunk, and its elements' importances where they are relaxed one by one; in `place`.
    std::span<const float> combineChunk(std::int64_t first, std::size_t size, std::span<const float* const> values,
                                        Workplace& place) const {
        const std::span<float> merged{place.merged.data(), size};
        sources_.inputsOf(values, place.inputs);
        prepared_->combine(first, sources_.methodBaseOf(values), place.inputs, merged);
        if (relaxesElements_) normaliseImportance(first, sources_.importanceOf(values), {place.importance.data(), size});
        return merged;
    }

    /// In `place`. @pre combineChunk() of the same chunk
    std::span<const float> relaxChunk(const Relaxation& relaxation, std::int64_t first, std::span<const float* const> values,
                                      std::span<const float> merged, Workplace& place) const {
        const std::span<float> relaxed{place.relaxed.data(), merged.size()};
        const std::span<const float> base{sources_.baseOf(values), merged.size()};
        if (relaxesElements_)
            relaxation.applyElements(base, merged, {place.importance.data(), merged.size()}, relaxed);
        else
            relaxation.apply(first, base, merged, relaxed);
        return relaxed;
    }

    /// In the place of every relaxation one by a single factor for each part, with which its change has the same norm.
    void scaleWhole(DeltaRounding rounding, ThreadPool& threads, std::span<SourceWindow> windows,
                    std::span<Workplace> places) {
        std::vector<std::vector<float>> factors(relaxations_.size());  // by point, then by part
        for (const MatrixPart& part : parts_) {
            const std::vector<double> norms = squaredChanges(part, threads, windows, places);
            for (std::size_t point = 0; point < relaxations_.size(); ++point)
                factors[point].push_back(norms[0] > 0 ? static_cast<float>(std::sqrt(norms[1 + point] / norms[0])) : 1.0f);
        }
        ChannelLayout layout = ChannelLayout::of(parts_.front().shape, -1);
        layout.matrices = static_cast<std::int64_t>(parts_.size());
        for (std::size_t point = 0; point < relaxations_.size(); ++point)
            if (relaxations_[point]) relaxations_[point] = Relaxation::uniform(factors[point], layout, rounding);
        relaxesElements_ = false;
    }

    /// The squared norms of the part's change from the base: of the merged values, and as every point has them. Summed in
    /// float64 by slabs, then over the slabs in order, so that the bits do not depend on the threads.
    std::vector<double> squaredChanges(const MatrixPart& part, ThreadPool& threads, std::span<SourceWindow> windows,
                                       std::span<Workplace> places) const {
        const std::size_t width = 1 + relaxations_.size();
        std::vector<double> ofSlabs(slabs(part) * width);
        const auto see = [&](std::size_t slab, std::size_t worker, std::int64_t at, std::size_t size,
                             std::span<const float* const> values) {
            Workplace& place = places[worker];
            const std::span<double> own{ofSlabs.data() + slab * width, width};
            const std::span<const float> base{sources_.baseOf(values), size};
            const std::span<const float> merged = combineChunk(at, size, values, place);
            own[0] += squaredDistance(base, merged);
            for (std::size_t point = 0; point < relaxations_.size(); ++point)
                if (relaxations_[point])
                    own[1 + point] += squaredDistance(base, relaxChunk(*relaxations_[point], at, values, merged, place));
        };
        walkSlabs(sources_.all(), part, threads, windows, see);
        std::vector<double> sums(width);
        for (std::size_t i = 0; i < ofSlabs.size(); ++i) sums[i % width] += ofSlabs[i];
        return sums;
    }

    static double squaredDistance(std::span<const float> a, std::span<const float> b) {
        double sum = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            const double difference = static_cast<double>(b[i]) - static_cast<double>(a[i]);
            sum += difference * difference;
        }
        return sum;
    }

    void normaliseImportance(std::int64_t first, const float* values, std::span<float> importance) const {
        forEachRowRun(first, importance.size(), elementCount(parts_.front().shape),
                      [&](std::int64_t part, std::int64_t, std::size_t offset, std::size_t count) {
                          const float largest = largestImportance_[static_cast<std::size_t>(part)];
                          for (std::size_t i = offset; i < offset + count; ++i)
                              importance[i] = largest > 0 ? values[i] / largest : 0.0f;
                      });
        applyElementShape(importance, *tensor_.elementImportance->aim);
    }

    void store(std::span<const float> values, std::byte* to) const {
        if (fromFloat(values, tensor_.dtype, to) == Finite::Yes) return;
        throw InputError(
            "{}: a merged value is beyond the range of {}; its inputs are finite, so the weights are too large or the "
            "out_dtype too narrow",
            tensor_.name, torchName(tensor_.dtype));
    }

    std::size_t number_;
    const TensorMerge& tensor_;
    std::int64_t elements_;
    std::size_t points_;
    TensorSources sources_;
    std::shared_ptr<const PreparedParameter> prepared_;
    bool relaxesElements_ = false;                        // one by one; else channel by channel
    std::vector<MatrixPart> parts_;                       // of equal size; one where the tensor is one
    std::vector<float> largestImportance_;                // of each part's elements, before they are normalised
    std::vector<std::optional<Relaxation>> relaxations_;  // per point; none when the tensor is not relaxed
#if AIMERGE_HAS_CUDA
    Device device_;  // the CPU, when there is no kernel
    DeltaRounding rounding_ = DeltaRounding::None;
#endif
};

/// A block of one tensor of the group.
struct BlockOfTensor {
    std::size_t run;
    std::uint64_t block;
};

}  // namespace

void KeptPreparation::offer(std::shared_ptr<const PreparedParameter> prepared, std::uint64_t parameterBytes) {
    if (prepared->heldBytes() <= parameterBytes / kLargestKeptShare) prepared_ = std::move(prepared);
}

void mergeTensors(std::span<const TensorMerge> tensors, std::span<const std::optional<double>> omegas,
                  DeltaRounding rounding, ThreadPool& threads, MergeSink& sink, const Device& device) {
    const auto workers = static_cast<std::size_t>(threads.threads());
    std::vector<SourceWindow> windows(workers);
    std::vector<Workplace> places(workers);

    for (std::size_t next = 0; next < tensors.size();) {
        std::vector<std::unique_ptr<TensorRun>> runs;
        std::vector<BlockOfTensor> blocks;
        const std::size_t firstOfGroup = next;
        std::uint64_t heldBytes = 0;
        while (next < tensors.size() && blocks.size() < kGroupBlocksPerThread * workers && heldBytes < kGroupHeldBytes) {
            for (std::uint64_t block = 0; block < TensorRun::blocksOf(tensors[next]); ++block)
                blocks.push_back({runs.size(), block});
            runs.push_back(
                std::make_unique<TensorRun>(next, tensors[next], omegas, rounding, threads, windows, places, device));
            sink.prepared(next);
            heldBytes += runs.back()->heldBytes();
            ++next;
        }

        std::vector<std::atomic<std::uint64_t>> left(runs.size());
        for (std::size_t run = 0; run < runs.size(); ++run) {
            left[run] = TensorRun::blocksOf(tensors[firstOfGroup + run]);
            if (left[run] == 0) sink.finish(firstOfGroup + run);
        }
        threads.forEach(blocks.size(), [&](std::size_t i, int worker) {
            const auto [run, block] = blocks[i];
            runs[run]->mergeBlock(block, windows[static_cast<std::size_t>(worker)], places[static_cast<std::size_t>(worker)],
                                  sink);
            if (--left[run] == 0) sink.finish(firstOfGroup + run);
        });
    }
}

std::uint64_t preparedAtOnceBytes(int threads) {
    return kGroupBlocksPerThread * static_cast<std::uint64_t>(threads) * kDigestBlockBytes;
}

std::uint64_t mergeBufferBytesPerThread(std::size_t inputs, std::size_t points) {
    return points * kDigestBlockBytes + SourceWindow::bytes(inputs) + inputs * selectionBytesPerThread() + sizeof(Workplace);
}

std::uint64_t mergeParameterBytes(std::span<const std::uint64_t> tensors) {
    std::uint64_t largest = 0, all = 0;
    for (const std::uint64_t bytes : tensors) {
        largest = std::max(largest, bytes);
        all += bytes;
    }
    return largest + std::min(all - largest, kGroupHeldBytes);
}

}  // namespace aimerge
