#pragma once
// Keeps the elements of a parameter at random, all with one probability. An element has a draw of 32 bits and is kept where
// that lies below a bound. Draws are compared bit by bit from the top: a bit plane has one bit of each of 2048 elements,
// laid out as merge/selection/kept_bits.h wants the result, and is made only while the bound has ones left: density 0.5 takes one
// plane. What eight planes leave undecided, one element in 256, takes the other 24 bits from a stream of their own.

#include "aimerge/core/random.h"
#include "merge/selection/kept_bits.h"

#include <cstddef>
#include <cstdint>

namespace aimerge {

/// The groups that a plane covers, and their elements.
inline constexpr std::size_t kPlaneGroups = 4, kPlaneElements = kPlaneGroups * kBitGroup;

/// The draw of element e. Bit 31 - b of it is that of plane b: word g of block 16 (8 (e / 2048) + b) + lane, where e is
/// number 16 k + lane of group g, has it as its bit k.
std::uint32_t keptDraw(const RandomStream& stream, std::uint64_t e);

/// Writes the bits of elements [first, first + count): kept where keptDraw() < bound.
/// @param words keptBitWords(count) of them; bits past the last element are anything
/// @pre first is a multiple of kPlaneElements, bound > 0
void drawKept(const RandomStream& stream, std::uint64_t first, std::size_t count, std::uint32_t bound, std::uint32_t* words);

}  // namespace aimerge
