#pragma once
// Parameters in memory for tests of the merge room: sources, a reader for prepare passes, a sink that keeps the bytes.

#include "aimerge/core/bfloat.h"
#include "aimerge/core/random.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/method.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <numbers>
#include <set>
#include <stdexcept>
#include <vector>

namespace aimerge {

using Floats = std::vector<float>;

/// Bits, so that -0 and 0 differ and NaNs compare.
inline std::vector<std::uint32_t> bitsOf(const Floats& values) {
    std::vector<std::uint32_t> bits;
    for (const float value : values) bits.push_back(bitsOfFloat(value));
    return bits;
}

/// Nearly normal: the sum of four uniform numbers, with mean 0 and standard deviation `scale`.
inline Floats normalValues(std::size_t count, std::uint64_t stream, float scale) {
    const RandomStream random{.seed = 7, .stream = stream};
    Floats values(count);
    for (std::size_t i = 0; i < count; ++i) {
        double sum = -2;
        for (const std::uint32_t word : random.block(i).word) sum += word * 0x1p-32;
        values[i] = scale * static_cast<float>(sum * std::numbers::sqrt3);
    }
    return values;
}

inline Floats roundedToBf16(Floats values) {
    for (float& value : values) value = floatFromBf16(bf16FromFloat(value));
    return values;
}

/// Elements [first, first + count) as float32.
inline Floats valuesOf(const TensorSource& source, std::int64_t first, std::size_t count) {
    std::vector<std::byte> bytes(count * bytesPerElement(source.dtype()));
    source.fetch(first, bytes);
    Floats values(count);
    source.convert(first, bytes.data(), values);
    return values;
}

class MemorySource : public TensorSource {
public:
    MemorySource(std::string origin, Floats values)
        : TensorSource(std::move(origin), Dtype::F32), values_(std::move(values)) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        if (static_cast<std::size_t>(first) + out.size() / sizeof(float) > values_.size())
            throw std::out_of_range("MemorySource");
        std::memcpy(out.data(), values_.data() + first, out.size());
    }

private:
    Floats values_;
};

/// A reader that hands out chunks of any size.
class MemoryReader : public ParameterReader {
public:
    /// @param base empty: the method sees none
    MemoryReader(Floats base, std::vector<Floats> inputs, ThreadPool& threads, std::int64_t chunk = 1000, Shape shape = {})
        : base_(std::move(base)),
          inputs_(std::move(inputs)),
          shape_(shape.empty() ? Shape{static_cast<std::int64_t>(inputs_.front().size())} : std::move(shape)),
          threads_(threads),
          chunk_(chunk) {}

    const std::string& name() const override { return name_; }
    Role role() const override { return shape_.size() == 1 ? Role::Norm : Role::Linear; }
    std::size_t inputs() const override { return inputs_.size(); }
    const Shape& shape() const override { return shape_; }
    bool hasBase() const override { return !base_.empty(); }
    ThreadPool& threads() override { return threads_; }
    const TensorSource* gramOf(std::size_t input) const override { return grams.empty() ? nullptr : grams[input].get(); }

    std::vector<std::shared_ptr<const TensorSource>> grams;

    void visit(std::int64_t first, std::int64_t count, std::span<const std::size_t> wanted, int worker,
               const Visit& visitChunk) override {
        for (std::int64_t at = first; at < first + count;) {
            const std::int64_t spanEnd = (at / kSpanElements + 1) * kSpanElements;
            const std::int64_t size = std::min({chunk_, first + count - at, spanEnd - at});
            std::vector<const float*> inputs(inputs_.size());
            for (const std::size_t input : wanted) inputs[input] = inputs_[input].data() + at;
            visitChunk({static_cast<std::size_t>(at / kSpanElements), at, static_cast<std::size_t>(size),
                        base_.empty() ? nullptr : base_.data() + at, inputs, worker});
            at += size;
        }
    }

private:
    std::string name_ = "weight";
    Floats base_;
    std::vector<Floats> inputs_;
    Shape shape_;
    ThreadPool& threads_;
    std::int64_t chunk_;
};

/// Keeps what is written and checks the sink's contract.
class MemorySink : public MergeSink {
public:
    void write(std::size_t tensor, std::size_t point, std::uint64_t offset, std::span<const std::byte> bytes) override {
        const std::lock_guard lock(mutex_);
        if (finished_.contains(tensor)) throw std::logic_error("write after finish");
        if (offset % (std::uint64_t{4} << 20) != 0) throw std::logic_error("offset is no block's");
        std::vector<std::byte>& whole = bytes_[{tensor, point}];
        if (whole.size() < offset + bytes.size()) whole.resize(offset + bytes.size());
        std::memcpy(whole.data() + offset, bytes.data(), bytes.size());
    }

    void finish(std::size_t tensor) override {
        const std::lock_guard lock(mutex_);
        if (!finished_.insert(tensor).second) throw std::logic_error("finished twice");
    }

    const std::vector<std::byte>& bytes(std::size_t tensor, std::size_t point = 0) { return bytes_[{tensor, point}]; }
    std::size_t finished() const { return finished_.size(); }

    template <typename Element>
    std::vector<Element> values(std::size_t tensor, std::size_t point = 0) {
        const std::vector<std::byte>& raw = bytes(tensor, point);
        std::vector<Element> elements(raw.size() / sizeof(Element));
        if (!elements.empty()) std::memcpy(elements.data(), raw.data(), raw.size());
        return elements;
    }

private:
    std::mutex mutex_;
    std::map<std::pair<std::size_t, std::size_t>, std::vector<std::byte>> bytes_;
    std::set<std::size_t> finished_;
};

/// Values of all parameters at their defaults, and `weight` as given for each input.
inline ResolvedParameters parameters(const Method& method, const std::vector<double>& weights) {
    ResolvedParameters values;
    for (const ParameterSpec& spec : method.info().parameters) {
        const bool isShared = spec.scope == ParameterScope::Shared;
        values.shared.push_back(isShared ? spec.fallback.value() : 0);
        if (isShared)
            values.perInput.emplace_back();
        else
            values.perInput.push_back(spec.name == "weight" ? weights
                                                            : std::vector<double>(weights.size(), spec.fallback.value()));
    }
    return values;
}

inline std::size_t parameterIndex(const Method& method, const std::string& name) {
    const auto& specs = method.info().parameters;
    return static_cast<std::size_t>(std::ranges::find(specs, name, &ParameterSpec::name) - specs.begin());
}

inline void setShared(const Method& method, ResolvedParameters& values, const std::string& name, double value) {
    values.shared.at(parameterIndex(method, name)) = value;
}

inline void setPerInput(const Method& method, ResolvedParameters& values, const std::string& name,
                        std::vector<double> each) {
    values.perInput.at(parameterIndex(method, name)) = std::move(each);
}

/// Prepares and combines one parameter that `reader` has.
inline Floats combinedFrom(MemoryReader& reader, const Method& method, const ResolvedParameters& values, const Floats& base,
                           const std::vector<Floats>& inputs) {
    const auto prepared = method.prepare(reader, values);
    std::vector<const float*> pointers;
    for (const Floats& input : inputs) pointers.push_back(input.data());
    Floats out(inputs.front().size());
    prepared->combine(0, base.empty() ? nullptr : base.data(), pointers, out);
    return out;
}

/// The same of values in memory. @param base empty for methods that take none @param shape empty: a vector
inline Floats combined(const Method& method, const ResolvedParameters& values, const Floats& base,
                       const std::vector<Floats>& inputs, int threads = 1, const Shape& shape = {}) {
    ThreadPool pool(threads);
    MemoryReader reader(base, inputs, pool, 1000, shape);
    return combinedFrom(reader, method, values, base, inputs);
}

inline TensorMerge tensorMerge(const Method& method, const ResolvedParameters& values, Shape shape, const Floats& base,
                               const std::vector<Floats>& inputs, Dtype dtype = Dtype::F32) {
    TensorMerge merge;
    merge.name = "weight";
    merge.parameter.role = shape.size() == 1 ? Role::Norm : Role::Linear;
    merge.shape = std::move(shape);
    merge.dtype = dtype;
    merge.method = &method;
    merge.parameters = values;
    merge.base = std::make_shared<MemorySource>("base: weight", base);
    for (std::size_t i = 0; i < inputs.size(); ++i)
        merge.inputs.push_back(std::make_shared<MemorySource>(fmt::format("expert_{}: weight", i), inputs[i]));
    return merge;
}

}  // namespace aimerge
