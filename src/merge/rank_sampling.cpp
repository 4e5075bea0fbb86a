#include "merge/rank_sampling.h"

#include "merge/random_words.h"
#include "merge/vectorised.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace aimerge {
namespace {

constexpr std::size_t kMostBins = 2048;

/// The smallest and the largest key.
std::array<std::uint32_t, 2> rangeOf(std::span<const std::uint32_t> keys) {
    const std::uint32_t* const key = keys.data();
    const std::size_t count = keys.size();
    return vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t low = 0xFFFFFFFFu, high = 0;
        for (std::size_t i = 0; i < count; ++i) {
            low = std::min(low, key[i]);
            high = std::max(high, key[i]);
        }
        return std::array{low, high};
    });
}

}  // namespace

RankBounds::RankBounds(double density, double epsilon, std::size_t length)
    : least_(length > 1 ? density - epsilon : density),
      step_(length > 1 ? 2 * epsilon / static_cast<double>(length - 1) : 0),
      bounds_(length) {
    for (std::size_t rank = 0; rank < length; ++rank) bounds_[rank] = keepBound(probability(rank));
}

double RankBounds::probability(std::size_t rank) const {
    return least_ + step_ * static_cast<double>(rank);
}

/// Fills starts_. Four histograms in turn, so that neighbours in the same bin do not wait for each other.
void RankSampler::countBins(std::span<const std::uint32_t> keys) {
    const auto [low, high] = rangeOf(keys);
    const std::size_t wanted = std::min(kMostBins, std::bit_ceil(keys.size()));
    lowest_ = low;
    shift_ = 0;
    while (((high - low) >> shift_) >= wanted) ++shift_;
    const std::size_t bins = ((high - low) >> shift_) + 1;

    std::array<std::array<std::uint32_t, kMostBins>, 4> counts;
    for (auto& part : counts) std::fill_n(part.begin(), bins, 0u);
    std::size_t i = 0;
    for (; i + 4 <= keys.size(); i += 4)
        for (std::size_t part = 0; part < 4; ++part) ++counts[part][(keys[i + part] - low) >> shift_];
    for (; i < keys.size(); ++i) ++counts[0][(keys[i] - low) >> shift_];

    starts_.resize(bins + 1);
    std::uint32_t start = 0;
    for (std::size_t bin = 0; bin < bins; ++bin) {
        starts_[bin] = start;
        start += counts[0][bin] + counts[1][bin] + counts[2][bin] + counts[3][bin];
    }
    starts_[bins] = start;
}

/// By looking at all elements of the row: it is asked for few.
std::uint32_t RankSampler::rankWithin(std::span<const std::uint32_t> keys, std::size_t element) const {
    const std::uint32_t* const key = keys.data();
    const std::uint32_t own = keys[element];
    const std::size_t count = keys.size();
    return vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t below = 0;
        for (std::size_t i = 0; i < element; ++i) below += key[i] <= own;
        for (std::size_t i = element + 1; i < count; ++i) below += key[i] < own;
        return below;
    });
}

void RankSampler::sample(std::span<const std::uint32_t> keys, const std::uint32_t* words, const RankBounds& bounds,
                         std::span<std::uint32_t> kept) {
    if (keys.empty()) return;
    countBins(keys);
    const std::size_t bins = starts_.size() - 1;
    surely_.resize(bins);
    possibly_.resize(bins);
    for (std::size_t bin = 0; bin < bins; ++bin) {
        if (starts_[bin] == starts_[bin + 1]) continue;  // of no element
        surely_[bin] = bounds.bound(starts_[bin]);
        possibly_[bin] = bounds.bound(starts_[bin + 1] - 1);
    }

    open_.resize(keys.size());
    std::size_t open = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::size_t bin = (keys[i] - lowest_) >> shift_;
        const std::uint32_t draw = words[i] >> 8;
        kept[i] = draw < surely_[bin];
        open_[open] = static_cast<std::uint32_t>(i);
        open += (draw >= surely_[bin]) & (draw < possibly_[bin]);
    }
    for (std::size_t i = 0; i < open; ++i) {
        const std::size_t element = open_[i];
        kept[element] = words[element] >> 8 < bounds.bound(rankWithin(keys, element));
    }
}

void RankSampler::ranks(std::span<const std::uint32_t> keys, std::span<std::uint32_t> ranks) {
    open_.resize(keys.size());
    std::iota(open_.begin(), open_.end(), 0u);
    std::ranges::stable_sort(open_, {}, [&](std::uint32_t element) { return keys[element]; });
    for (std::size_t rank = 0; rank < open_.size(); ++rank) ranks[open_[rank]] = static_cast<std::uint32_t>(rank);
}

}  // namespace aimerge
