#pragma once
// Which elements of a row are kept when the probability grows with the rank of the magnitude. Most draws lie below the least
// bound of a row or above its greatest; nearly all others are decided by a histogram of the magnitudes, whatever their rank
// within its bin; the ranks of the few that are left are counted. Changes of 16-bit values are small whole numbers of a
// power of two, so many are equal: magnitudes of few digits have bins of their own.

#include "aimerge/core/random.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// Twice the rank of an element within its row: the number of elements below it, and half of the others that equal it.
using DoubleRank = std::uint32_t;

/// Keep probabilities and bounds (merge/selection/element_draws.h) by rank, for rows of one length.
class RankBounds {
public:
    /// p_r = (density - epsilon) + 2 epsilon r / (length - 1); density, where the length is 1
    RankBounds(double density, double epsilon, std::size_t length);

    double least() const { return least_; }  // probability(0)
    double step() const { return step_; }    // from one DoubleRank to the next
    std::uint32_t bound(DoubleRank rank) const { return bounds_[rank]; }
    double probability(DoubleRank rank) const;

private:
    double least_, step_;
    std::vector<std::uint32_t> bounds_;
};

/// One thread's room for a row.
class RankSampler {
public:
    /// @param keys magnitudes as bits, as many as the bounds are for
    /// @param first index of the row's first element in the stream
    /// @param draws the upper halves of the elements' draws, with room for whole groups of bits
    /// @param kept set to the bits of the row (merge/selection/kept_bits.h); those past the last element are anything
    void sample(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                std::uint64_t first, const std::uint16_t* draws, std::uint32_t* kept);

    /// Rank of every element.
    void ranks(std::span<const std::uint32_t> keys, std::span<DoubleRank> ranks);

private:
    void countBins(std::span<const std::uint32_t> keys);
    void limitBins(const RankBounds& bounds);
    void compare(const std::uint16_t* draws, std::uint32_t* kept);
    void settle(std::span<const std::uint32_t> keys, const RankBounds& bounds, const RandomStream& stream,
                std::uint64_t first, const std::uint16_t* draws, std::uint32_t* kept);
    void rankOpenKeys(std::span<const std::uint32_t> keys);

    std::vector<std::uint32_t> counts_;  // of elements per bin
    std::vector<std::uint32_t> below_;   // per bin: elements in the bins before
    std::vector<std::uint32_t> limits_;  // per bin: upper draws below the lower half are kept, above the upper half dropped
    std::vector<std::uint32_t> binOf_;   // of every element, and up to a whole group of bits
    std::vector<std::uint32_t> undecided_;  // bits
    std::vector<std::uint64_t> open_;       // key and index of elements that their bin does not decide
    std::vector<std::uint32_t> openKeys_;   // different ones, ascending
    std::vector<DoubleRank> openRanks_;     // theirs
    std::vector<std::uint32_t> sorted_;     // the row's keys
};

}  // namespace aimerge
