#pragma once
// Presents one number per element that is computed from base and inputs as if it were an input of its own, beside a base of
// zeros: what is asked about changes (a selection) can be asked about that number.

#include "aimerge/merge/parameter_reader.h"

#include <functional>
#include <string>
#include <vector>

namespace aimerge {

class DerivedReader : public ParameterReader {
public:
    /// Writes chunk.count numbers. All inputs of the chunk are there.
    using Derive = std::function<void(const ParameterChunk& chunk, float* out)>;

    /// @param source must outlive this
    DerivedReader(ParameterReader& source, Derive derive)
        : source_(source),
          derive_(std::move(derive)),
          sourceInputs_(source.allInputs()),
          buffers_(static_cast<std::size_t>(source.threads().threads())) {}

    const std::string& name() const override { return source_.name(); }
    Role role() const override { return source_.role(); }
    std::size_t inputs() const override { return 1; }
    const Shape& shape() const override { return source_.shape(); }
    bool hasBase() const override { return true; }
    ThreadPool& threads() override { return source_.threads(); }
    const TensorSource* gramOf(std::size_t) const override { return nullptr; }

    void visit(std::int64_t first, std::int64_t count, std::span<const std::size_t> /*wanted*/, int worker,
               const Visit& visitChunk) override {
        Buffer& buffer = buffers_[static_cast<std::size_t>(worker)];
        source_.visit(first, count, sourceInputs_, worker, [&](const ParameterChunk& chunk) {
            if (buffer.derived.size() < chunk.count) {
                buffer.derived.resize(chunk.count);
                buffer.zeros.resize(chunk.count);
            }
            derive_(chunk, buffer.derived.data());
            const float* const derived = buffer.derived.data();
            visitChunk({chunk.span, chunk.first, chunk.count, buffer.zeros.data(), {&derived, 1}, worker});
        });
    }

private:
    struct Buffer {
        std::vector<float> derived, zeros;
    };

    ParameterReader& source_;
    Derive derive_;
    std::vector<std::size_t> sourceInputs_;
    std::vector<Buffer> buffers_;  // per worker
};

}  // namespace aimerge
