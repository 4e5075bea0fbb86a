#pragma once
// Which elements of a row are kept when the probability grows with the rank of the magnitude. Ranks are settled by a
// histogram: most elements are kept or dropped whatever their rank within its bin, and only where a draw falls between the
// bounds of a bin is the order within that bin looked at.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// Keep bounds (merge/random_words.h) by rank, for rows of one length: an element of rank r is kept when its 24-bit draw is
/// below bound(r).
class RankBounds {
public:
    /// p_r = (density - epsilon) + 2 epsilon r / (length - 1)
    RankBounds(double density, double epsilon, std::size_t length);

    std::size_t length() const { return bounds_.size(); }
    std::uint32_t bound(std::size_t rank) const { return bounds_[rank]; }
    double probability(std::size_t rank) const;

private:
    double least_, step_;
    std::vector<std::uint32_t> bounds_;
};

/// One thread's room for a row.
class RankSampler {
public:
    /// Sets kept[i] to 1 or 0.
    /// @param keys magnitudes as bits, bounds.length() of them
    /// @param words the elements' random words
    void sample(std::span<const std::uint32_t> keys, const std::uint32_t* words, const RankBounds& bounds,
                std::span<std::uint32_t> kept);

    /// Rank of every element.
    void ranks(std::span<const std::uint32_t> keys, std::span<std::uint32_t> ranks);

private:
    /// Elements of similar magnitude, which have consecutive ranks.
    struct Bin {
        std::uint32_t start = 0;                 // rank of the first
        std::uint32_t cursor = 0;                // rank of the next in index order: its rank, if all have one magnitude
        std::uint32_t some = 0;                  // the key of one of them
        std::uint32_t differences = 0;           // bits in which others differ from it
        std::uint32_t surely = 0, possibly = 0;  // draws below are kept, draws from there on dropped, whatever the rank
    };

    void countBins(std::span<const std::uint32_t> keys);
    void settleMixedBins(std::span<const std::uint32_t> keys, const std::uint32_t* words, const RankBounds& bounds,
                         std::size_t open, std::span<std::uint32_t> kept);

    std::vector<Bin> bins_;               // in ascending order, one more at the end
    std::vector<std::uint16_t> binOf_;    // of every element
    std::vector<std::uint32_t> open_;     // elements that their bin does not decide
    std::vector<std::uint64_t> members_;  // key and index of the elements of mixed bins, at their bins' ranks
};

}  // namespace aimerge
