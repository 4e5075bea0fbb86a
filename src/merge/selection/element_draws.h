#pragma once
// A random number for every element of a parameter and expert, as a function of (seed, parameter, expert, element) alone, to
// be compared with a bound of the element's own (one bound for all: merge/selection/kept_draws.h). A draw has 32 bits; its upper half
// decides nearly always, so a Philox block makes those of 8 elements, and the lower half is made only where the upper one
// falls on a bound. Elements are laid out in groups of 128, which take the 8 halves of 16 blocks, so that a loop over 16
// lanes makes them all: element e has half (e / 16) mod 8 of block 16 (e / 128) + e mod 16.

#include "aimerge/core/random.h"
#include "merge/combine/vectorised.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// The stream of one parameter and expert. @param expert its place among the method's inputs
RandomStream elementStream(std::uint64_t seed, const std::string& parameter, std::size_t expert);

/// stream.block(first + lane), of 16 lanes, for vectorised loops over the lanes. @pre first is a multiple of 16, so that no
/// lane crosses a multiple of 2^32
template <typename Word>
AIMERGE_INLINE_BODY inline PhiloxBlock blockOfLane(const RandomStream& stream, std::uint64_t first, std::uint32_t lane) {
    const auto wordOf = [](std::uint64_t value) { return static_cast<Word>(static_cast<std::uint32_t>(value)); };
    const PhiloxWords<Word> block = philox4x32<Word>(
        {{wordOf(first + lane), wordOf(first >> 32), wordOf(stream.stream), wordOf(stream.stream >> 32)}}, stream.seed);
    return {{static_cast<std::uint32_t>(block.word[0]), static_cast<std::uint32_t>(block.word[1]),
             static_cast<std::uint32_t>(block.word[2]), static_cast<std::uint32_t>(block.word[3])}};
}

/// Calls use with a zero of the word in which blocks are made fastest: only AVX-512 multiplies 64-bit lanes.
template <typename Use>
void withPhiloxWord(const Use& use) {
    if (instructionSet() == InstructionSet::Avx512)
        use(std::uint64_t{});
    else
        use(std::uint32_t{});
}

/// A word of the element's own, for the lower bits of its draw.
inline std::uint32_t secondWord(const RandomStream& stream, std::uint64_t e) {
    return RandomStream{.seed = stream.seed, .stream = ~stream.stream}.word(e);
}

/// The draw of element e, and its halves.
inline std::uint32_t upperDraw(const RandomStream& stream, std::uint64_t e) {
    const std::uint64_t half = e / 16 % 8;
    return stream.block(16 * (e / 128) + e % 16).word[half / 2] >> (16 * (half % 2)) & 0xFFFFu;
}
inline std::uint32_t lowerDraw(const RandomStream& stream, std::uint64_t e) {
    return secondWord(stream, e) >> 16;
}
inline std::uint32_t elementDraw(const RandomStream& stream, std::uint64_t e) {
    return upperDraw(stream, e) << 16 | lowerDraw(stream, e);
}

/// elementDraw() < bound. @param upper upperDraw(stream, e)
inline bool isDrawBelow(std::uint32_t bound, std::uint32_t upper, const RandomStream& stream, std::uint64_t e) {
    const std::uint32_t upperBound = bound >> 16;
    return upper != upperBound ? upper < upperBound : lowerDraw(stream, e) < (bound & 0xFFFFu);
}

/// Keep with probability p in (0, 1) is elementDraw() < keepBound(p).
std::uint32_t keepBound(double probability);

/// One thread's room for the upper halves of a stretch of elements.
class UpperDraws {
public:
    /// @return those of elements [first, first + count), with room for whole groups of bits (merge/selection/kept_bits.h); valid until
    /// the next call
    const std::uint16_t* fill(const RandomStream& stream, std::int64_t first, std::size_t count);

private:
    std::vector<std::uint16_t> draws_;
};

}  // namespace aimerge
