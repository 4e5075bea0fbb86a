#pragma once
// The prepared parameter of methods that drop elements of each change at random: DARE, DELLA.

#include "merge/combine/task_vector_combine.h"
#include "merge/selection/kept_bits.h"

#include <cstdint>
#include <vector>

namespace aimerge {

/// Which elements of one input stay: a bit each, every row from a group of its own (merge/selection/kept_bits.h); or, where each has
/// its own factor, those.
struct Sample {
    bool isAll = true;
    float scale = 1;  // of what is kept, where there are bits
    std::vector<std::uint32_t> bits;
    std::vector<float> factors;
};

class SampledChange : public PreparedParameter {
public:
    /// @param samples one per input
    /// @param columns elements of a row
    SampledChange(Addition addition, const ResolvedParameters& values, std::vector<Sample> samples, std::int64_t columns)
        : addition_(addition, values), samples_(std::move(samples)), columns_(columns) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override;
#if AIMERGE_HAS_CUDA
    bool runsOnDevice() const override {
        return true;
    }
    void combineOnDevice(std::int64_t first, const DeviceTile& tile) const override;
#endif
    std::uint64_t heldBytes() const override;

private:
    void expand(const Sample& sample, std::int64_t first, std::span<float> factors) const;

    TaskVectorAddition addition_;
    std::vector<Sample> samples_;
    std::int64_t columns_;
};

}  // namespace aimerge
