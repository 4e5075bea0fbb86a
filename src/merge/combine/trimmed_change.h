#pragma once
// The prepared parameter of methods that keep a range of magnitudes of each change: ties, breadcrumbs.

#include "merge/combine/task_vector_combine.h"
#include "merge/selection/kept_magnitude.h"

#include <memory>
#include <vector>

namespace aimerge {

/// @param kept one per input; where some have an upper end, Trim is KeepBetween, else KeepFrom
template <template <int> class Trim>
class TrimmedChange : public WalkedParameter<TrimmedChange<Trim>> {
public:
    /// Rescales as `values` say. @param trimmed the inputs of which not everything is kept, at least one
    TrimmedChange(Addition addition, ParameterReader& parameter, const ResolvedParameters& values,
                  std::vector<KeptRange> kept, const std::vector<std::size_t>& trimmed)
        : addition_(addition, values), kept_(std::move(kept)), rescale_(parameter.inputs(), 1.0f) {
        if (values.shared[kRescale] != 0) rescale_ = rescaleFactors(parameter, kept_, trimmed);
    }

    template <typename Tile>
    void walk(std::int64_t first, const Tile& tile) const {
        forEachUniformRun(kept_, first, tile.count, [&](const MagnitudeBits& bits, std::size_t offset, std::size_t count) {
            withPart(tile, offset, count, [&](const Tile& part) {
                addition_.walk<Trim>([&](auto number) { return trim<decltype(number)::value>(bits); }, part);
            });
        });
    }

private:
    template <int kInputs>
    Trim<kInputs> trim(const MagnitudeBits& bits) const {
        const auto least = PerInput<std::uint32_t, kInputs>::from(bits.least.data());
        const auto rescale = PerInput<float, kInputs>::from(rescale_.data());
        if constexpr (requires(Trim<kInputs> t) { t.dropped; })
            return {least, PerInput<std::uint32_t, kInputs>::from(bits.dropped.data()), rescale};
        else
            return {least, rescale};
    }

    TaskVectorAddition addition_;
    std::vector<KeptRange> kept_;
    std::vector<float> rescale_;
};

}  // namespace aimerge
