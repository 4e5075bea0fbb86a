#pragma once
// Which elements of a row are kept when the probability grows with the rank of the magnitude. Most draws lie below the least
// bound of a row or above its greatest; nearly all others are decided by a histogram of the magnitudes, whatever their rank
// within its bin; the ranks of the few that are left are counted.

#include "aimerge/core/random.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// Twice the rank of an element within its row: the number of elements below it, and half of the others that equal it.
using DoubleRank = std::uint32_t;

/// Keep probabilities and bounds (merge/element_draws.h) by rank, for rows of one length.
class RankBounds {
public:
    /// p_r = (density - epsilon) + 2 epsilon r / (length - 1); density, where the length is 1
    RankBounds(double density, double epsilon, std::size_t length);

    std::size_t length() const { return (bounds_.size() + 1) / 2; }
    std::uint32_t bound(DoubleRank rank) const { return bounds_[rank]; }
    double probability(DoubleRank rank) const;

private:
    double least_, step_;
    std::vector<std::uint32_t> bounds_;
};

/// One thread's room for a row.
class RankSampler {
public:
    /// @param keys magnitudes as bits, bounds.length() of them
    /// @param marks the upper halves of the elements' draws, with room for whole groups of bits (merge/kept_bits.h);
    ///        overwritten with kKept or kDropped
    /// @param first index of the row's first element in the stream
    void sample(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                std::uint64_t first, std::uint16_t* marks);

    /// Rank of every element.
    void ranks(std::span<const std::uint32_t> keys, std::span<DoubleRank> ranks);

private:
    void countBins(std::span<const std::uint32_t> keys);
    void settle(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                std::uint64_t first, std::uint16_t* marks);

    std::vector<std::uint32_t> counts_;  // of elements per bin
    std::vector<std::uint32_t> limits_;  // per bin: upper draws below the lower half are kept, above the upper half dropped
    std::vector<std::uint32_t> binOf_;   // of every element
    std::vector<std::uint64_t> open_;    // key and index of elements that their bin does not decide
    std::vector<std::uint32_t> sorted_;  // the row's keys
};

}  // namespace aimerge
