#pragma once
// The ParameterReader of a tensor that is being merged.

#include "merge/sources/tensor_sources.h"

#include <string>
#include <vector>

namespace aimerge {

class TensorReader : public ParameterReader {
public:
    /// @param part what of the tensor is the parameter @param windows one per thread, shared with
    /// whoever merges on these threads
    TensorReader(const TensorMerge& tensor, const MatrixPart& part, const TensorSources& sources, ThreadPool& threads,
                 std::span<SourceWindow> windows)
        : tensor_(tensor), part_(part), sources_(sources), threads_(threads), windows_(windows) {}

    const std::string& name() const override { return part_.name; }
    Role role() const override { return tensor_.parameter.role; }
    std::size_t inputs() const override { return sources_.inputs(); }
    const Shape& shape() const override { return part_.shape; }
    bool hasBase() const override { return sources_.takesBase(); }
    ThreadPool& threads() override { return threads_; }
    const TensorSource* gramOf(std::size_t input) const override {
        const bool hasGrams = tensor_.method->info().needs == ExpertStatistic::InputGram && !tensor_.statistics.empty();
        return hasGrams ? tensor_.statistics[input].get() : nullptr;
    }

    void visit(std::int64_t first, std::int64_t count, std::span<const std::size_t> wanted, int worker,
               const Visit& visitChunk) override {
        const std::vector<const TensorSource*> chosen = sources_.some(wanted);
        std::vector<const float*> inputs;
        windows_[static_cast<std::size_t>(worker)].walk(
            chosen, part_.first + first, count,
            [&](std::int64_t place, std::size_t size, std::span<const float* const> values) {
                const std::int64_t at = place - part_.first;
                sources_.inputsOf(values, inputs);
                visitChunk(
                    {static_cast<std::size_t>(at / kSpanElements), at, size, sources_.methodBaseOf(values), inputs, worker});
            },
            part_.first);
    }

private:
    const TensorMerge& tensor_;
    const MatrixPart& part_;
    const TensorSources& sources_;
    ThreadPool& threads_;
    std::span<SourceWindow> windows_;
};

}  // namespace aimerge
