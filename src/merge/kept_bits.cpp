#include "merge/kept_bits.h"

#include "aimerge/core/bfloat.h"
#include "merge/vectorised.h"

#include <algorithm>

namespace aimerge {

void packKeptBits(std::uint16_t* marks, std::size_t count, std::uint32_t* words) {
    const std::size_t groups = wholeBitGroups(count);
    std::fill(marks + count, marks + groups * kBitGroup, std::uint16_t{kDropped});
    vectorised([=]() AIMERGE_INLINE_BODY {
        for (std::size_t g = 0; g < groups; ++g) {
            std::uint32_t bits[kBitLanes] = {};
            for (std::uint32_t k = 0; k < kBitGroup / kBitLanes; ++k)
                for (std::size_t lane = 0; lane < kBitLanes; ++lane)
                    bits[lane] |= std::uint32_t{marks[g * kBitGroup + k * kBitLanes + lane]} << k;
            for (std::size_t lane = 0; lane < kBitLanes; ++lane) words[g * kBitLanes + lane] = bits[lane];
        }
    });
}

void expandKeptBits(const std::uint32_t* words, std::size_t first, float scale, std::span<float> factors) {
    float* const to = factors.data();
    const std::size_t count = factors.size();
    const std::uint32_t kept = bitsOfFloat(scale);
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto factor = [=](std::size_t e) AIMERGE_INLINE_BODY {
            const std::uint32_t word = words[e / kBitGroup * kBitLanes + e % kBitLanes];
            return floatOfBits(selectBits((word >> (e / kBitLanes % 32) & 1u) != 0, kept, 0u));
        };
        std::size_t i = 0;
        for (; i < count && (first + i) % kBitLanes != 0; ++i) to[i] = factor(first + i);
        for (; i + kBitLanes <= count; i += kBitLanes) {
            const std::size_t e = first + i;
            const std::uint32_t* const word = words + e / kBitGroup * kBitLanes;
            const std::uint32_t bit = 1u << (e / kBitLanes % 32);
            for (std::size_t lane = 0; lane < kBitLanes; ++lane)
                to[i + lane] = floatOfBits(selectBits((word[lane] & bit) != 0, kept, 0u));
        }
        for (; i < count; ++i) to[i] = factor(first + i);
    });
}

}  // namespace aimerge
