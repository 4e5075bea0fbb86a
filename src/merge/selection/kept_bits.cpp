#include "merge/selection/kept_bits.h"

#include "aimerge/core/bfloat.h"
#include "merge/combine/vectorised.h"

namespace aimerge {

void expandKeptBits(const std::uint32_t* words, std::size_t first, float scale, std::span<float> factors) {
    float* const to = factors.data();
    const std::size_t count = factors.size();
    const std::uint32_t kept = bitsOfFloat(scale);
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto factor = [=](std::size_t e) AIMERGE_INLINE_BODY {
            return floatOfBits(selectBits((words[keptBitWord(e)] & keptBit(e)) != 0, kept, 0u));
        };
        std::size_t i = 0;
        for (; i < count && (first + i) % kBitLanes != 0; ++i) to[i] = factor(first + i);
        for (; i + kBitLanes <= count; i += kBitLanes) {
            const std::size_t e = first + i;
            const std::uint32_t* const word = words + keptBitWord(e);
            const std::uint32_t bit = keptBit(e);
            for (std::size_t lane = 0; lane < kBitLanes; ++lane)
                to[i + lane] = floatOfBits(selectBits((word[lane] & bit) != 0, kept, 0u));
        }
        for (; i < count; ++i) to[i] = factor(first + i);
    });
}

}  // namespace aimerge
