#pragma once
// What a method's prepare pass sees of one parameter: the float32 values of base and inputs, chunk by chunk, over all
// threads. A parameter is divided into spans of kSpanElements; one thread runs through a span in ascending order, so
// whatever is kept per span does not depend on the number of threads.

#include "aimerge/architecture/architecture.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/safetensors/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

class TensorSource;

/// Elements [first, first + count) of one parameter. Valid during the call it is handed to.
struct ParameterChunk {
    std::size_t span = 0;
    std::int64_t first = 0;
    std::size_t count = 0;
    const float* base = nullptr;           // null where hasBase() is false
    std::span<const float* const> inputs;  // null for those not wanted; without the base where hasBase() is true
    int worker = 0;
};

class ParameterReader {
public:
    static constexpr std::int64_t kSpanElements = 65536;
    using Visit = std::function<void(const ParameterChunk&)>;

    virtual ~ParameterReader() = default;

    virtual const std::string& name() const = 0;  // of the output tensor, for messages
    virtual Role role() const = 0;
    virtual std::size_t inputs() const = 0;
    virtual const Shape& shape() const = 0;  // of the output tensor
    virtual bool hasBase() const = 0;        // a base stands apart from the inputs
    virtual ThreadPool& threads() = 0;

    /// float32 values of an input's Gram matrix, [in, in]; null for methods and parameters without.
    virtual const TensorSource* gramOf(std::size_t input) const = 0;

    /// Calls visit for the chunks of [first, first + count), in ascending order, on the calling thread. Spans begin at
    /// multiples of kSpanElements, and a chunk lies within one span.
    /// @param wanted indices of the inputs to read
    /// @param worker the calling thread's number within threads(): calls with different numbers may run at the same time
    virtual void visit(std::int64_t first, std::int64_t count, std::span<const std::size_t> wanted, int worker,
                       const Visit& visit) = 0;

    std::int64_t elements() const { return elementCount(shape()); }
    std::size_t spans() const { return static_cast<std::size_t>((elements() + kSpanElements - 1) / kSpanElements); }

    std::vector<std::size_t> allInputs() const;  // 0 ... inputs() - 1

    /// Calls visit for all chunks, spans shared out over the threads.
    void visitAll(std::span<const std::size_t> wanted, const Visit& visit);
};

}  // namespace aimerge
