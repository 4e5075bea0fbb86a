#include "merge/combine/sampled_change.h"

#include "merge/sources/row_runs.h"

#include <algorithm>
#include <memory>

namespace aimerge {
namespace {

/// Elements whose factors are laid out at a time: they stay in the first cache.
constexpr std::size_t kTile = 1024;

/// What TaskVectorAddition makes its trim with. @param factors one pointer per input
auto scaleBy(const std::vector<const float*>& factors) {
    return [&factors](auto number) {
        constexpr int kInputs = decltype(number)::value;
        return ScaleEach<kInputs>{PerInput<const float*, kInputs>::from(factors.data())};
    };
}

}  // namespace

void SampledChange::combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                            std::span<float> out) const {
    const auto expanded = std::make_unique_for_overwrite<float[]>(samples_.size() * kTile);
    std::vector<const float*> factors(samples_.size()), from(samples_.size());
    const auto makeTrim = scaleBy(factors);
    for (std::size_t offset = 0; offset < out.size(); offset += kTile) {
        const std::size_t count = std::min(kTile, out.size() - offset);
        const std::int64_t element = first + static_cast<std::int64_t>(offset);
        for (std::size_t i = 0; i < samples_.size(); ++i) {
            from[i] = inputs[i] + offset;
            factors[i] = expanded.get() + i * kTile;
            if (samples_[i].factors.empty())
                expand(samples_[i], element, {expanded.get() + i * kTile, count});
            else
                factors[i] = samples_[i].factors.data() + element;
        }
        addition_.walk<ScaleEach>(makeTrim, HostTile{base + offset, from, out.subspan(offset, count)});
    }
}

#if AIMERGE_HAS_CUDA
void SampledChange::combineOnDevice(std::int64_t first, const DeviceTile& tile) const {
    std::vector<const float*> factors;
    for (const Sample& sample : samples_) {
        const std::span<float> made = tile.coefficients->make(tile.count);
        if (sample.factors.empty())
            expand(sample, first, made);
        else
            std::copy_n(sample.factors.begin() + first, made.size(), made.begin());
        factors.push_back(tile.coefficients->place());
    }
    addition_.walk<ScaleEach>(scaleBy(factors), tile);
}
#endif

std::uint64_t SampledChange::heldBytes() const {
    std::uint64_t bytes = 0;
    for (const Sample& sample : samples_)
        bytes += sample.bits.size() * sizeof(std::uint32_t) + sample.factors.size() * sizeof(float);
    return bytes;
}

void SampledChange::expand(const Sample& sample, std::int64_t first, std::span<float> factors) const {
    if (sample.isAll) return std::fill(factors.begin(), factors.end(), 1.0f);
    const std::size_t rowWords = keptBitWords(static_cast<std::size_t>(columns_));
    forEachRowRun(first, factors.size(), columns_,
                  [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                      expandKeptBits(sample.bits.data() + static_cast<std::size_t>(row) * rowWords,
                                     static_cast<std::size_t>(column), sample.scale, factors.subspan(offset, count));
                  });
}

}  // namespace aimerge
