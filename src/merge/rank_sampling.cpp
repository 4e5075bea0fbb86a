#include "merge/rank_sampling.h"

#include "aimerge/core/bfloat.h"
#include "merge/element_draws.h"
#include "merge/kept_bits.h"
#include "merge/vectorised.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

/// Bins are a fraction of an octave wide and reach this many octaves down from the largest magnitude; what is smaller, zeros
/// above all, shares the lowest bin.
constexpr std::uint32_t kOctaves = 10, kMantissaBits = 23, kMostBinsPerOctave = 64;
constexpr std::size_t kMostBins = kOctaves * kMostBinsPerOctave + 1;

/// Longer rows take narrower bins, so that about as few elements are left undecided.
/// @return the bits of a key that its bin does not look at
unsigned shiftFor(std::size_t elements) {
    unsigned shift = kMantissaBits - 6;
    for (std::size_t most = 64 * kMostBinsPerOctave; most > elements && shift < kMantissaBits; most /= 2) ++shift;
    return shift;
}

/// Neighbours count in different histograms, so that none waits for the one before.
constexpr std::size_t kHistograms = 4;

/// Ranks of up to so many different keys are counted by looking at the whole row; for more, the row is sorted.
constexpr std::size_t kFewKeys = 64;

std::uint32_t largestOf(std::span<const std::uint32_t> keys) {
    const std::uint32_t* const key = keys.data();
    const std::size_t count = keys.size();
    return vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t largest = 0;
        for (std::size_t i = 0; i < count; ++i) largest = key[i] > largest ? key[i] : largest;
        return largest;
    });
}

/// How many elements lie below `own`, and how many equal it.
DoubleRank doubleRank(std::size_t below, std::size_t equal) {
    return static_cast<DoubleRank>(2 * below + equal - 1);
}

DoubleRank rankWithin(std::span<const std::uint32_t> keys, std::uint32_t own) {
    const std::uint32_t* const key = keys.data();
    const std::size_t count = keys.size();
    return vectorised([=]() AIMERGE_INLINE_BODY {
        const auto signedOwn = static_cast<std::int32_t>(own);  // keys have no top bit, and signed ones compare faster
        std::uint32_t below = 0, above = 0;
        for (std::size_t i = 0; i < count; ++i) {
            below += static_cast<std::int32_t>(key[i]) < signedOwn;
            above += static_cast<std::int32_t>(key[i]) > signedOwn;
        }
        return doubleRank(below, count - below - above);
    });
}

DoubleRank rankWithinSorted(std::span<const std::uint32_t> sorted, std::uint32_t own) {
    const auto [begin, end] = std::equal_range(sorted.begin(), sorted.end(), own);
    return doubleRank(static_cast<std::size_t>(begin - sorted.begin()), static_cast<std::size_t>(end - begin));
}

std::uint32_t keyOf(std::uint64_t open) {
    return static_cast<std::uint32_t>(open >> 32);
}

}  // namespace

RankBounds::RankBounds(double density, double epsilon, std::size_t length)
    : least_(length > 1 ? density - epsilon : density),
      step_(length > 1 ? epsilon / static_cast<double>(length - 1) : 0),
      bounds_(2 * length - 1) {
    for (std::size_t rank = 0; rank < bounds_.size(); ++rank)
        bounds_[rank] = keepBound(probability(static_cast<DoubleRank>(rank)));
}

double RankBounds::probability(DoubleRank rank) const {
    return least_ + step_ * static_cast<double>(rank);
}

/// Fills binOf_ and counts_.
void RankSampler::countBins(std::span<const std::uint32_t> keys) {
    const std::uint32_t largest = largestOf(keys), reach = kOctaves << kMantissaBits;
    const std::uint32_t floor = largest > reach ? largest - reach : 0;
    const unsigned shift = shiftFor(keys.size());
    const std::size_t bins = ((largest - floor) >> shift) + 1;
    binOf_.resize(keys.size());
    const std::uint32_t* const key = keys.data();
    std::uint32_t* const bin = binOf_.data();
    const std::size_t count = keys.size();
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) bin[i] = ((key[i] > floor ? key[i] : floor) - floor) >> shift;
    });

    std::array<std::array<std::uint32_t, kMostBins>, kHistograms> counts;
    for (auto& histogram : counts) std::fill_n(histogram.begin(), bins, 0u);
    std::size_t i = 0;
    for (; i + kHistograms <= count; i += kHistograms)
        for (std::size_t h = 0; h < kHistograms; ++h) ++counts[h][bin[i + h]];
    for (; i < count; ++i) ++counts[0][bin[i]];
    counts_.assign(bins, 0);
    for (const auto& histogram : counts)
        for (std::size_t b = 0; b < bins; ++b) counts_[b] += histogram[b];
}

void RankSampler::sample(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                         std::uint64_t first, std::uint16_t* marks) {
    if (keys.empty()) return;
    countBins(keys);
    limits_.resize(counts_.size());
    std::size_t below = 0;
    for (std::size_t b = 0; b < counts_.size(); ++b) {
        if (counts_[b] == 0) continue;
        const std::uint32_t least = bounds.bound(doubleRank(below, 1));
        const std::uint32_t greatest = bounds.bound(doubleRank(below + counts_[b] - 1, 1));
        limits_[b] = least >> 16 | (greatest & 0xFFFF0000u);
        below += counts_[b];
    }

    const std::uint32_t *const bin = binOf_.data(), *const limits = limits_.data();
    const std::size_t count = keys.size();
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t limit = limits[bin[i]];
            marks[i] = markOf(marks[i], limit & 0xFFFFu, limit >> 16);
        }
    });
    settle(keys, bounds, stream, first, marks);
}

/// Decides what is undecided by the rank of its key.
void RankSampler::settle(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                         std::uint64_t first, std::uint16_t* marks) {
    open_.clear();
    settleUndecided(marks, keys.size(), [&](std::size_t i) {
        open_.push_back(std::uint64_t{keys[i]} << 32 | i);
        return false;
    });
    std::ranges::sort(open_);
    std::size_t different = 0;
    for (std::size_t i = 0; i < open_.size(); ++i) different += i == 0 || keyOf(open_[i]) != keyOf(open_[i - 1]);
    const bool isSorted = different > kFewKeys;
    if (isSorted) {
        sorted_.assign(keys.begin(), keys.end());
        std::ranges::sort(sorted_);
    }

    std::uint32_t bound = 0;
    for (std::size_t i = 0; i < open_.size(); ++i) {
        const std::uint32_t key = keyOf(open_[i]);
        if (i == 0 || key != keyOf(open_[i - 1]))
            bound = bounds.bound(isSorted ? rankWithinSorted(sorted_, key) : rankWithin(keys, key));
        const auto element = static_cast<std::uint32_t>(open_[i]);
        marks[element] = isDrawBelow(bound, stream, first + element) ? kKept : kDropped;
    }
}

void RankSampler::ranks(std::span<const std::uint32_t> keys, std::span<DoubleRank> ranks) {
    sorted_.assign(keys.begin(), keys.end());
    std::ranges::sort(sorted_);
    for (std::size_t i = 0; i < keys.size(); ++i) ranks[i] = rankWithinSorted(sorted_, keys[i]);
}

}  // namespace aimerge
