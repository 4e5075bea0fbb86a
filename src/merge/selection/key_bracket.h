#pragma once
// Keys and brackets of a selection. A key is the bits of |theta_i - theta_base|, at most those of infinity.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

inline constexpr std::uint32_t kLargestKey = 0x7F800000u;

/// The keys low ... high, both included.
struct KeyBracket {
    std::uint32_t low = 0, high = kLargestKey;

    bool operator==(const KeyBracket&) const = default;
};

/// Where keys fell, seen from a bracket. A key that is both ends counts as `high`.
struct BracketTally {
    std::uint32_t above = 0, high = 0, inside = 0, low = 0;
};

/// Tallies the keys of count elements and appends those strictly inside the bracket to `collected`, in order.
/// @param collected has room for count + kCollectSlack keys; null: they are only counted
/// @return how many were appended
std::size_t tallyKeys(const float* base, const float* input, std::size_t count, KeyBracket bracket, BracketTally& tally,
                      std::uint32_t* collected);

/// tallyKeys writes whole vectors.
inline constexpr std::size_t kCollectSlack = 16;

/// Writes the keys of count elements.
void keysOf(const float* base, const float* input, std::size_t count, std::uint32_t* keys);

/// Bins of equal width over `range`, for histograms.
struct KeyBins {
    static constexpr unsigned kBits = 12;
    static constexpr std::size_t kCount = std::size_t{1} << kBits;

    explicit KeyBins(KeyBracket range);

    std::size_t binOf(std::uint32_t key) const { return (key - range.low) >> shift; }
    KeyBracket bracketOf(std::size_t bin) const;

    KeyBracket range;
    unsigned shift;
};

/// The bin that holds the k-th largest of what was counted, and how many lie in the bins above. @pre k <= sum of counts
struct RankedBin {
    std::size_t bin = 0;
    std::uint64_t above = 0;
};
RankedBin binOfRank(std::span<const std::uint64_t> counts, std::uint64_t k);

/// Keys that lie in memory, in several parts, by rank.
class KeyRanking {
public:
    /// @param parts must outlive the ranking. @pre every key lies in `range`
    KeyRanking(std::span<const std::span<const std::uint32_t>> parts, KeyBracket range);

    /// @pre 1 <= k <= number of keys
    std::uint32_t kthLargest(std::size_t k) const;

private:
    std::span<const std::span<const std::uint32_t>> parts_;
    KeyBins bins_;
    std::vector<std::uint64_t> counts_;
};

}  // namespace aimerge
