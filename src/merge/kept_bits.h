#pragma once
// A bit for every element of a row: kept or dropped. A group of 512 elements takes a word for each of 16 lanes: element e is
// bit (e / 16) mod 32 of word 16 (e / 512) + e mod 16, so that packing and unpacking move nothing from lane to lane.

#include "aimerge/core/bfloat.h"
#include "merge/vectorised.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

/// What is known of an element before it becomes a bit.
enum KeptMark : std::uint16_t { kDropped, kKept, kUndecided };

/// @param marks kKept or kDropped, from the first element of a group on, with room for whole groups
/// @param words keptBitWords(count) of them
void packKeptBits(std::uint16_t* marks, std::size_t count, std::uint32_t* words);

/// factors[i] = scale where element first + i of the row is kept, else 0. @param words of the row
void expandKeptBits(const std::uint32_t* words, std::size_t first, float scale, std::span<float> factors);

/// What the upper half of a draw says: below `kept` it is kept, above `dropped` dropped. For vectorised loops.
AIMERGE_INLINE_BODY inline std::uint16_t markOf(std::uint32_t draw, std::uint32_t kept, std::uint32_t dropped) {
    return static_cast<std::uint16_t>(selectBits(draw > dropped, kDropped, selectBits(draw < kept, kKept, kUndecided)));
}

/// Calls decide(i) for the undecided marks and writes down what it says.
/// @param marks with room for whole groups
template <typename Decide>
void settleUndecided(std::uint16_t* marks, std::size_t count, const Decide& decide) {
    constexpr std::size_t kAtOnce = 16, kMarksPerWord = sizeof(std::uint64_t) / sizeof *marks;
    constexpr std::uint64_t kAnyUndecided = kUndecided * 0x0001000100010001u;
    for (std::size_t begin = 0; begin < count; begin += kAtOnce) {
        std::array<std::uint64_t, kAtOnce / kMarksPerWord> words;
        std::memcpy(words.data(), marks + begin, sizeof words);
        if (((words[0] | words[1] | words[2] | words[3]) & kAnyUndecided) == 0) continue;
        for (std::size_t i = begin; i < std::min(count, begin + kAtOnce); ++i)
            if (marks[i] == kUndecided) marks[i] = decide(i) ? kKept : kDropped;
    }
}

}  // namespace aimerge
