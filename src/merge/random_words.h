#pragma once
// A random number for every element of a parameter and expert, as a function of (seed, parameter, expert, element) alone.
// Elements are laid out in groups of 64, which take the four words of 16 Philox blocks, so that a loop over 16 lanes makes
// them all: element e has word (e / 16) mod 4 of block 16 (e / 64) + e mod 16.

#include "aimerge/core/random.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// The stream of one parameter and expert. @param expert its place among the method's inputs
RandomStream elementStream(std::uint64_t seed, const std::string& parameter, std::size_t expert);

/// The word of element e.
AIMERGE_HD inline std::uint32_t elementWord(const RandomStream& stream, std::uint64_t e) {
    return stream.block(16 * (e / 64) + e % 16).word[e / 16 % 4];
}

/// Random numbers are compared by 24 bits: keep with probability p is elementWord() >> 8 < keepBound(p).
inline constexpr double kDraws = 0x1p24;
std::uint32_t keepBound(double probability);

/// The words of a stretch of elements.
class RandomWords {
public:
    /// @return count words, those of elements [first, first + count); valid until the next call
    const std::uint32_t* fill(const RandomStream& stream, std::int64_t first, std::size_t count);

private:
    std::vector<std::uint32_t> words_;
};

}  // namespace aimerge
