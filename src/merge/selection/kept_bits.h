#pragma once
// A bit for every element of a row: kept or dropped. A group of 512 elements takes a word for each of 16 lanes: element e is
// bit (e / 16) mod 32 of word 16 (e / 512) + e mod 16, so that packing and unpacking move nothing from lane to lane.

#include <cstddef>
#include <cstdint>
#include <span>

namespace aimerge {

inline constexpr std::size_t kBitGroup = 512, kBitLanes = 16;

constexpr std::size_t wholeBitGroups(std::size_t elements) {
    return (elements + kBitGroup - 1) / kBitGroup;
}

/// Words of a row.
constexpr std::size_t keptBitWords(std::size_t elements) {
    return wholeBitGroups(elements) * kBitLanes;
}

/// For an element of the row: the word of its bit, and the bit in it.
constexpr std::size_t keptBitWord(std::size_t e) {
    return e / kBitGroup * kBitLanes + e % kBitLanes;
}
constexpr std::uint32_t keptBit(std::size_t e) {
    return std::uint32_t{1} << (e / kBitLanes % 32);
}
/// The element of bit k of a word.
constexpr std::size_t elementOfBit(std::size_t word, unsigned k) {
    return word / kBitLanes * kBitGroup + k * kBitLanes + word % kBitLanes;
}

/// factors[i] = scale where element first + i of the row is kept, else 0. @param words of the row
void expandKeptBits(const std::uint32_t* words, std::size_t first, float scale, std::span<float> factors);

}  // namespace aimerge
