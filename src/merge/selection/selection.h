#pragma once
// Which elements of a change theta_i - theta_base are the k largest in magnitude: exact, without sorting, for several inputs
// in the same pass. |d| is compared as the bits of a non-negative float32, which are in the same order.
//
// A random sample brackets the wanted value, and one pass over the parameter counts what lies above the bracket and collects
// what lies inside; the value is then found among those. Values that many elements share (bf16 checkpoints, zeros) end up at
// an end of the bracket, where they are counted and not collected. When the bracket missed, or more was inside than the
// buffers hold, histograms narrow it down, so the result is the same for any data and any sample.

#include "aimerge/merge/parameter_reader.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace aimerge {

/// The elements to keep: |d| above `magnitude`, and those equal to it at flat indices below `equalEnd`.
struct MagnitudeCut {
    std::uint32_t magnitude = 0;  // bits of a float32 >= 0
    std::int64_t equalEnd = 0;

    /// Bits of the least magnitude kept at indices before / from equalEnd on.
    std::uint32_t leastKeptAt(std::int64_t index) const { return index < equalEnd ? magnitude : magnitude + 1; }

    static MagnitudeCut keepAll(std::int64_t elements) { return {0, elements}; }
    static MagnitudeCut keepNone() { return {0xFFFFFFFEu, 0}; }  // leastKeptAt: the largest number, which no magnitude is
    bool operator==(const MagnitudeCut&) const = default;
};

struct SelectionRequest {
    std::size_t input = 0;                // as the reader numbers them
    std::int64_t keep = 1;                // k
    std::optional<float> ofNonzero = {};  // k is, instead, this share of the elements that are not zero: the product in
                                          // float32, rounded down; they are counted in the same pass
};

/// How much is sampled and collected; any setting gives the same result.
struct SelectionSettings {
    std::int64_t sampleFrom = 65536;  // smaller parameters are collected whole
    std::int64_t mostSampled = std::int64_t{1} << 19;
    std::size_t collected = std::size_t{1} << 20;  // values held per input, over all threads
    double bracketDeviations = 4;  // half width of the bracket, >= 0, in standard deviations of the sampled rank
};

/// @pre 1 <= keep <= elements(), or 0 <= ofNonzero <= 1, for every request; all values are finite
/// @return one cut per request; keepNone() where a share is less than an element
std::vector<MagnitudeCut> selectLargest(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                        const SelectionSettings& settings = {});

/// Upper bound of the memory that selectLargest takes per thread and request.
std::uint64_t selectionBytesPerThread(const SelectionSettings& settings = {});

}  // namespace aimerge
