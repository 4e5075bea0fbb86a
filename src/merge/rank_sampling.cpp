#include "merge/rank_sampling.h"

#include "merge/random_words.h"
#include "merge/vectorised.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace aimerge {
namespace {

/// Bins are a fraction of an octave wide and reach this many octaves down from the largest magnitude; what is smaller, zeros
/// above all, shares the lowest bin.
constexpr std::uint32_t kOctaves = 10, kMantissaBits = 23, kMostBinsPerOctave = 64;
constexpr std::size_t kMostBins = kOctaves * kMostBinsPerOctave + 1;

/// Up to so many open elements, it is cheaper to compare each with the whole row than to sort their bins.
constexpr std::size_t kFewOpen = 32;

/// About a bin for every 3 elements. @return the bits of a key that its bin does not look at
unsigned shiftFor(std::size_t elements) {
    unsigned shift = kMantissaBits - 6;
    for (std::size_t most = 1024; most > elements && shift < kMantissaBits; most /= 2) ++shift;
    return shift;
}

std::uint32_t largestOf(std::span<const std::uint32_t> keys) {
    const std::uint32_t* const key = keys.data();
    const std::size_t count = keys.size();
    return vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t largest = 0;
        for (std::size_t i = 0; i < count; ++i) largest = key[i] > largest ? key[i] : largest;
        return largest;
    });
}

/// By looking at the whole row.
std::uint32_t rankWithin(std::span<const std::uint32_t> keys, std::size_t element) {
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

/// Fills binOf_ and bins_ up to their keys. Two histograms in turn, so that neighbours in the same bin do not wait for each
/// other.
void RankSampler::countBins(std::span<const std::uint32_t> keys) {
    const unsigned shift = shiftFor(keys.size());
    const std::uint32_t largest = largestOf(keys), reach = kOctaves << kMantissaBits;
    const std::uint32_t floor = largest > reach ? largest - reach : 0;
    const std::size_t bins = ((largest - floor) >> shift) + 1;

    binOf_.resize(keys.size());
    const std::uint32_t* const key = keys.data();
    std::uint16_t* const bin = binOf_.data();
    const std::size_t count = keys.size();
    vectorised([=]() AIMERGE_INLINE_BODY {
        for (std::size_t i = 0; i < count; ++i)
            bin[i] = static_cast<std::uint16_t>(((key[i] > floor ? key[i] : floor) - floor) >> shift);
    });

    std::array<std::array<std::uint32_t, kMostBins>, 2> counts;
    for (auto& part : counts) std::fill_n(part.begin(), bins, 0u);
    for (std::size_t i = 0; i + 2 <= count; i += 2) {
        ++counts[0][bin[i]];
        ++counts[1][bin[i + 1]];
    }
    if (count % 2 != 0) ++counts[0][bin[count - 1]];

    bins_.assign(bins + 1, {});
    std::uint32_t start = 0;
    for (std::size_t b = 0; b < bins; ++b) {
        bins_[b].start = bins_[b].cursor = start;
        start += counts[0][b] + counts[1][b];
    }
    bins_[bins].start = start;
    for (std::size_t i = 0; i < count; ++i) bins_[bin[i]].some = key[i];
}

void RankSampler::sample(std::span<const std::uint32_t> keys, const std::uint32_t* words, const RankBounds& bounds,
                         std::span<std::uint32_t> kept) {
    if (keys.empty()) return;
    countBins(keys);
    for (std::size_t b = 0; b + 1 < bins_.size(); ++b) {
        const std::uint32_t start = bins_[b].start, end = bins_[b + 1].start;
        if (start == end) continue;  // of no element
        bins_[b].surely = bounds.bound(start);
        bins_[b].possibly = bounds.bound(end - 1);
    }

    open_.resize(keys.size());
    std::size_t open = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        Bin& bin = bins_[binOf_[i]];
        const std::uint32_t draw = words[i] >> 8;
        bin.differences |= keys[i] ^ bin.some;
        kept[i] = draw < bounds.bound(bin.cursor++);  // right, but for open elements of mixed bins
        open_[open] = static_cast<std::uint32_t>(i);
        open += (draw >= bin.surely) & (draw < bin.possibly);
    }
    const auto isMixed = [&](std::uint32_t element) { return bins_[binOf_[element]].differences != 0; };
    open = static_cast<std::size_t>(std::remove_if(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(open),
                                                   [&](std::uint32_t element) { return !isMixed(element); }) -
                                    open_.begin());
    if (open > kFewOpen) return settleMixedBins(keys, words, bounds, open, kept);
    for (std::size_t i = 0; i < open; ++i) {
        const std::size_t element = open_[i];
        kept[element] = words[element] >> 8 < bounds.bound(rankWithin(keys, element));
    }
}

/// Sorts the mixed bins, and decides all of their elements by rank.
void RankSampler::settleMixedBins(std::span<const std::uint32_t> keys, const std::uint32_t* words, const RankBounds& bounds,
                                  std::size_t open, std::span<std::uint32_t> kept) {
    std::vector<std::uint8_t> isOpen(bins_.size());
    for (std::size_t i = 0; i < open; ++i) isOpen[binOf_[open_[i]]] = 1;
    for (Bin& bin : bins_) bin.cursor = bin.start;
    members_.resize(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i)
        if (isOpen[binOf_[i]] != 0) members_[bins_[binOf_[i]].cursor++] = std::uint64_t{keys[i]} << 32 | i;

    for (std::size_t b = 0; b < bins_.size(); ++b) {
        if (isOpen[b] == 0) continue;
        std::sort(members_.begin() + bins_[b].start, members_.begin() + bins_[b].cursor);
        for (std::uint32_t rank = bins_[b].start; rank < bins_[b].cursor; ++rank) {
            const auto element = static_cast<std::uint32_t>(members_[rank]);
            kept[element] = words[element] >> 8 < bounds.bound(rank);
        }
    }
}

void RankSampler::ranks(std::span<const std::uint32_t> keys, std::span<std::uint32_t> ranks) {
    open_.resize(keys.size());
    std::iota(open_.begin(), open_.end(), 0u);
    std::ranges::stable_sort(open_, {}, [&](std::uint32_t element) { return keys[element]; });
    for (std::size_t rank = 0; rank < open_.size(); ++rank) ranks[open_[rank]] = static_cast<std::uint32_t>(rank);
}

}  // namespace aimerge
