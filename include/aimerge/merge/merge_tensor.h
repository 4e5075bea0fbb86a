#pragma once
// The executor: runs a method over output tensors, relaxes the result for every omega and hands out finished bytes. Inputs
// are read once for all omegas (methods with a prepare pass read them once more). Work is shared out in blocks of the size
// that the shard writer digests, over several tensors at a time, so that small tensors do not leave threads idle. Memory is
// mergeBufferBytesPerThread() per thread, whatever the size of the tensors, and mergeParameterBytes() for methods that work
// on whole parameters.

#include "aimerge/core/thread_pool.h"
#include "aimerge/device/device.h"
#include "aimerge/merge/method.h"
#include "aimerge/merge/relaxation.h"
#include "aimerge/merge/tensor_source.h"
#include "aimerge/safetensors/safetensors.h"
#include "aimerge/safetensors/shard_layout.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// A of single elements: shape(g / max g), by a float32 source in the tensor's shape.
struct ElementImportance {
    std::shared_ptr<const TensorSource> values;
    const AimConfig* aim = nullptr;  // outlives the merge
};

/// What a method has found out about a parameter, for the next merge of it: filled by the first one, unless it is large
/// beside the parameter itself. Not thread-safe.
class KeptPreparation {
public:
    std::shared_ptr<const PreparedParameter> get() const { return prepared_; }
    void offer(std::shared_ptr<const PreparedParameter> prepared, std::uint64_t parameterBytes);

private:
    std::shared_ptr<const PreparedParameter> prepared_;
};

/// One output tensor that is to be merged.
struct TensorMerge {
    std::string name;
    Parameter parameter;
    Shape shape;                // of the output
    Dtype dtype = Dtype::BF16;  // of the output: BF16, F16 or F32
    const Method* method = nullptr;
    ResolvedParameters parameters;
    std::shared_ptr<const TensorSource> base;                     // null when neither method nor relaxation needs it
    std::vector<std::shared_ptr<const TensorSource>> inputs;      // as the method numbers them; one may be the base
    std::vector<std::shared_ptr<const TensorSource>> statistics;  // as MethodInfo::needs says, one per input; or none
    std::optional<ChannelImportance> importance;                  // of the channels
    std::optional<ElementImportance> elementImportance = {};      // neither: every point has the merged values
    std::optional<double> omega = {};                             // its own, in place of that of every point
    bool scalesWhole = false;  // AimControl::Scale: the importances only say by how much the whole tensor is held back
    KeptPreparation* kept = nullptr;     // of the same parameter, sources and values
    std::vector<MatrixPart> parts = {};  // each is merged as a tensor of its own name; empty: the tensor is one
};

/// One output tensor that is taken over from one model: byte for byte, or converted when the output's dtype is another.
struct TensorCopy {
    std::string name;
    Dtype dtype = Dtype::BF16;      // of the output
    std::vector<InputView> inputs;  // the first is copied; the others must have the same bytes
};

/// Where finished bytes go. Called from any thread, for different blocks at the same time.
class MergeSink {
public:
    virtual ~MergeSink() = default;

    /// Bytes [offset, offset + bytes.size()) of tensor number `tensor` of the call, for point number `point` (0 without
    /// AIM). offset is a multiple of kDigestBlockBytes, and so is bytes.size() unless the tensor ends there.
    virtual void write(std::size_t tensor, std::size_t point, std::uint64_t offset, std::span<const std::byte> bytes) = 0;

    /// Everything has been found out about the tensor that its merge needs beforehand: its inputs are read once more, all of
    /// them and in no order. Not called of tensors that are copied.
    virtual void prepared(std::size_t) {}

    /// All bytes of the tensor have been written, for every point.
    virtual void finish(std::size_t tensor) = 0;
};

/// Bits do not depend on the number of threads, on the machine's vector instructions, on the device, or on which tensors are
/// merged together. On a GPU every thread is a lane of its own that reads, copies, combines and writes a block, so that as
/// many blocks as threads are on their way; methods' prepare passes, and parameters that have no kernel, run on the
/// processors.
/// @param omegas one per point; nullopt: the point has the merged values as they are. Empty: one such point
/// @pre Method::check() found nothing wrong with the parameters
/// @throws InputError naming model, tensor and element (NaN,
///         infinity), or the output tensor when a merged value is beyond the range of its dtype; what the sink throws
void mergeTensors(std::span<const TensorMerge> tensors, std::span<const std::optional<double>> omegas,
                  DeltaRounding rounding, ThreadPool& threads, MergeSink& sink, const Device& device = {});

/// Every point gets the same bytes.
/// @throws InputError naming the tensor and two models when their bytes differ
void copyTensors(std::span<const TensorCopy> tensors, std::size_t points, ThreadPool& threads, MergeSink& sink);

/// Bytes of the outputs that are prepared before the first of them is merged, besides the last one of them: at most.
std::uint64_t preparedAtOnceBytes(int threads);

/// Upper bound of the memory that one thread of mergeTensors works in. @param inputs models, the base included
std::uint64_t mergeBufferBytesPerThread(std::size_t inputs, std::size_t points);

/// Upper bound of what mergeTensors keeps besides: the method's working memory of a parameter, and the results that it holds
/// for the others of a group. 0 for methods that keep small results only. @param tensors Method::workingBytes() of each
std::uint64_t mergeParameterBytes(std::span<const std::uint64_t> tensors);

}  // namespace aimerge
