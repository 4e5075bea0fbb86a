#include "merge/selection/rank_sampling.h"

#include "aimerge/core/bfloat.h"
#include "merge/combine/vectorised.h"
#include "merge/selection/element_draws.h"
#include "merge/selection/kept_bits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace aimerge {
namespace {

/// Magnitudes are divided into fractions of an octave that reach this many octaves down from the largest, and each into two
/// bins: an even one for the magnitude with which it begins, an odd one for the rest. What is smaller is with the rest of
/// the first, but for zeros, which have bin 0.
constexpr std::uint32_t kOctaves = 8, kMantissaBits = 23, kMostPerOctave = 64;
constexpr std::size_t kMostBins = 2 * (std::size_t{kOctaves} * kMostPerOctave + 3);

/// Longer rows take narrower fractions, so that about as few elements are left undecided.
/// @return the bits of a key within a fraction
unsigned shiftFor(std::size_t elements) {
    unsigned shift = kMantissaBits - 6;
    for (std::size_t most = std::size_t{64} * kMostPerOctave; most > elements && shift < kMantissaBits; most /= 2) ++shift;
    return shift;
}

/// Neighbours count in different histograms, so that none waits for the one before.
constexpr std::size_t kHistograms = 4;

/// Ranks of up to so many different keys are counted by looking at the whole row, for a few at a time;
/// for more, the row is sorted.
constexpr std::size_t kFewKeys = 64, kKeysAtOnce = 4;

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

/// doubleRank() of `own`: every element counts once if it is below, and once if it is not above.
std::array<DoubleRank, kKeysAtOnce> ranksWithin(std::span<const std::uint32_t> keys,
                                                const std::array<std::uint32_t, kKeysAtOnce>& own) {
    const auto* const key =
        reinterpret_cast<const std::int32_t*>(keys.data());  // keys have no top bit, and signed compare faster
    const std::size_t count = keys.size();
    const auto own0 = static_cast<std::int32_t>(own[0]), own1 = static_cast<std::int32_t>(own[1]),
               own2 = static_cast<std::int32_t>(own[2]), own3 = static_cast<std::int32_t>(own[3]);
    return vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (std::size_t i = 0; i < count; ++i) {
            sum0 += (key[i] < own0) + (key[i] <= own0);
            sum1 += (key[i] < own1) + (key[i] <= own1);
            sum2 += (key[i] < own2) + (key[i] <= own2);
            sum3 += (key[i] < own3) + (key[i] <= own3);
        }
        return std::array<DoubleRank, kKeysAtOnce>{sum0 - 1, sum1 - 1, sum2 - 1, sum3 - 1};
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
    const unsigned shift = shiftFor(keys.size());
    const std::uint32_t within = (1u << shift) - 1;
    const std::uint32_t floor = largest > reach ? (largest - reach) & ~within : 0;
    const std::size_t bins = 2 * ((largest - floor) >> shift) + 4;
    binOf_.resize(wholeBitGroups(keys.size()) * kBitGroup);
    std::fill(binOf_.begin() + static_cast<std::ptrdiff_t>(keys.size()), binOf_.end(), 0u);
    const std::uint32_t* const key = keys.data();
    std::uint32_t* const bin = binOf_.data();
    const std::size_t count = keys.size();
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t above = (key[i] > floor ? key[i] : floor + 1) - floor;
            const std::uint32_t own = 2 * (above >> shift) + 2 + ((above & within) != 0);
            bin[i] = key[i] == 0 ? 0 : own;
        }
    });

    std::array<std::array<std::uint32_t, kMostBins>, kHistograms> counts;
    for (auto& histogram : counts) std::fill_n(histogram.begin(), bins, 0u);
    std::size_t i = 0;
    for (; i + kHistograms <= count; i += kHistograms)
        for (std::size_t h = 0; h < kHistograms; ++h) ++counts[h][bin[i + h]];
    for (; i < count; ++i) ++counts[0][bin[i]];
    counts_.resize(bins);
    vectorised([of = &counts, sums = counts_.data(), bins]() AIMERGE_INLINE_BODY {
        for (std::size_t b = 0; b < bins; ++b) {
            std::uint32_t sum = 0;
            for (std::size_t h = 0; h < kHistograms; ++h) sum += (*of)[h][b];
            sums[b] = sum;
        }
    });
}

/// Fills below_ and limits_.
void RankSampler::limitBins(const RankBounds& bounds) {
    const std::size_t bins = counts_.size();
    below_.resize(bins);
    limits_.resize(bins);
    std::exclusive_scan(counts_.begin(), counts_.end(), below_.begin(), 0u);

    // The least and the greatest upper half of a bound that an element of the bin can have, in units of 2^-16. A bound is
    // rounded up, so it may be one unit in the last place above its probability. The equal magnitudes of an even bin have
    // one rank.
    const double least = bounds.least() * 0x1p16, step = bounds.step() * 0x1p16;
    const std::uint32_t *const below = below_.data(), *const counts = counts_.data();
    std::uint32_t* const limits = limits_.data();
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t b = 0; b < bins; ++b) {
            const std::int32_t others = static_cast<std::int32_t>(counts[b]) - 1;
            const std::int32_t isOdd = static_cast<std::int32_t>(b) & 1;
            const std::int32_t firstRank = static_cast<std::int32_t>(2 * below[b]) + (1 - isOdd) * others;
            const std::int32_t lastRank = firstRank + 2 * isOdd * others;
            const auto kept = static_cast<std::int32_t>(least + step * firstRank);
            const auto dropped = static_cast<std::int32_t>(least + step * lastRank + 0x1p-16);
            const std::int32_t greatest = dropped < 0xFFFF ? dropped : 0xFFFF;  // a bound next to 2^32
            limits[b] = static_cast<std::uint32_t>(kept) | static_cast<std::uint32_t>(greatest) << 16;
        }
    });
}

/// Sets what the bins decide, and undecided_.
void RankSampler::compare(const std::uint16_t* draws, std::uint32_t* kept) {
    const std::uint32_t *const bin = binOf_.data(), *const limits = limits_.data();
    const std::size_t groups = binOf_.size() / kBitGroup;
    undecided_.resize(groups * kBitLanes);
    std::uint32_t* const undecided = undecided_.data();
    vectorised([=]() AIMERGE_INLINE_BODY {
        for (std::size_t g = 0; g < groups; ++g) {
            std::uint32_t keptBits[kBitLanes] = {}, openBits[kBitLanes] = {};
            for (unsigned k = 0; k < kBitGroup / kBitLanes; ++k) {
                const std::size_t begin = elementOfBit(g * kBitLanes, k);
                for (std::size_t lane = 0; lane < kBitLanes; ++lane) {
                    const std::uint32_t limit = limits[bin[begin + lane]], draw = draws[begin + lane];
                    const std::uint32_t least = limit & 0xFFFFu, greatest = limit >> 16;
                    keptBits[lane] |= selectBits(draw < least, 1u << k, 0u);
                    openBits[lane] |= selectBits((draw >= least) & (draw <= greatest), 1u << k, 0u);
                }
            }
            for (std::size_t lane = 0; lane < kBitLanes; ++lane) {
                kept[g * kBitLanes + lane] = keptBits[lane];
                undecided[g * kBitLanes + lane] = openBits[lane];
            }
        }
    });
}

void RankSampler::sample(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                         std::uint64_t first, const std::uint16_t* draws, std::uint32_t* kept) {
    if (keys.empty()) return;
    countBins(keys);
    limitBins(bounds);
    compare(draws, kept);
    settle(keys, bounds, stream, first, draws, kept);
}

/// Decides what is undecided by the rank of its key.
void RankSampler::settle(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                         std::uint64_t first, const std::uint16_t* draws, std::uint32_t* kept) {
    open_.clear();
    for (std::size_t word = 0; word < undecided_.size(); ++word) {
        for (std::uint32_t bits = undecided_[word]; bits != 0; bits &= bits - 1) {
            const std::size_t e = elementOfBit(word, static_cast<unsigned>(std::countr_zero(bits)));
            if (e < keys.size()) open_.push_back(std::uint64_t{keys[e]} << 32 | e);
        }
    }
    if (open_.empty()) return;
    std::ranges::sort(open_);
    rankOpenKeys(keys);

    std::size_t at = 0;
    for (const std::uint64_t open : open_) {
        at += keyOf(open) != openKeys_[at];
        const auto element = static_cast<std::uint32_t>(open);
        const std::uint32_t bound = bounds.bound(openRanks_[at]);
        if (isDrawBelow(bound, draws[element], stream, first + element)) kept[keptBitWord(element)] |= keptBit(element);
    }
}

/// Fills openKeys_ and openRanks_ from open_.
void RankSampler::rankOpenKeys(std::span<const std::uint32_t> keys) {
    openKeys_.clear();
    for (const std::uint64_t open : open_)
        if (openKeys_.empty() || keyOf(open) != openKeys_.back()) openKeys_.push_back(keyOf(open));
    openRanks_.resize(openKeys_.size());
    if (openKeys_.size() > kFewKeys) {
        sorted_.assign(keys.begin(), keys.end());
        std::ranges::sort(sorted_);
        for (std::size_t k = 0; k < openKeys_.size(); ++k) openRanks_[k] = rankWithinSorted(sorted_, openKeys_[k]);
        return;
    }
    for (std::size_t k = 0; k < openKeys_.size(); k += kKeysAtOnce) {
        const std::size_t number = std::min(kKeysAtOnce, openKeys_.size() - k);
        std::array<std::uint32_t, kKeysAtOnce> own{};
        std::copy_n(openKeys_.begin() + static_cast<std::ptrdiff_t>(k), number, own.begin());
        std::copy_n(ranksWithin(keys, own).begin(), number, openRanks_.begin() + static_cast<std::ptrdiff_t>(k));
    }
}

void RankSampler::ranks(std::span<const std::uint32_t> keys, std::span<DoubleRank> ranks) {
    sorted_.assign(keys.begin(), keys.end());
    std::ranges::sort(sorted_);
    for (std::size_t i = 0; i < keys.size(); ++i) ranks[i] = rankWithinSorted(sorted_, keys[i]);
}

}  // namespace aimerge
