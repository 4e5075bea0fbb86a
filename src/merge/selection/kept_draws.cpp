#include "merge/selection/kept_draws.h"

#include "merge/combine/vectorised.h"
#include "merge/selection/element_draws.h"

#include <algorithm>
#include <bit>

namespace aimerge {
namespace {

constexpr unsigned kPlanes = 8, kLowerBits = 32 - kPlanes;
constexpr std::size_t kPlaneWords = kPlaneGroups * kBitLanes;

/// The bits of a draw that no plane has.
std::uint32_t lowerBits(const RandomStream& stream, std::uint64_t e) {
    return secondWord(stream, e) >> kPlanes;
}

/// Compares the top `planes` bits: words of what lies below the bound, and of what equals it so far.
void comparePlanes(const RandomStream& stream, std::uint64_t plane, unsigned planes, std::uint32_t bound,
                   std::uint32_t* kept, std::uint32_t* undecided) {
    std::fill_n(kept, kPlaneWords, 0u);
    std::fill_n(undecided, kPlaneWords, ~0u);
    withPhiloxWord([=](auto zero) {
        vectorised([=]() AIMERGE_INLINE_BODY {
            for (unsigned b = 0; b < planes; ++b) {
                const std::uint64_t firstBlock = kBitLanes * (plane + b);
                const std::uint32_t wanted = (bound >> (31 - b) & 1u) != 0 ? ~0u : 0u;
#pragma GCC ivdep
                for (std::uint32_t lane = 0; lane < kBitLanes; ++lane) {
                    const PhiloxBlock block = blockOfLane<decltype(zero)>(stream, firstBlock, lane);
                    for (std::size_t g = 0; g < kPlaneGroups; ++g) {
                        const std::size_t place = g * kBitLanes + lane;
                        const std::uint32_t open = undecided[place];
                        kept[place] |= open & wanted & ~block.word[g];
                        undecided[place] = open & ~(wanted ^ block.word[g]);
                    }
                }
            }
        });
    });
}

}  // namespace

std::uint32_t keptDraw(const RandomStream& stream, std::uint64_t e) {
    const std::uint64_t group = e / kBitGroup % kPlaneGroups, lane = e % kBitLanes, k = e % kBitGroup / kBitLanes;
    std::uint32_t draw = lowerBits(stream, e);
    for (unsigned b = 0; b < kPlanes; ++b) {
        const std::uint64_t plane = kPlanes * (e / kPlaneElements) + b;
        draw |= (stream.block(kBitLanes * plane + lane).word[group] >> k & 1u) << (31 - b);
    }
    return draw;
}

void drawKept(const RandomStream& stream, std::uint64_t first, std::size_t count, std::uint32_t bound,
              std::uint32_t* words) {
    const unsigned planes = std::min(kPlanes, 32u - static_cast<unsigned>(std::countr_zero(bound)));
    const std::uint32_t lowerBound = bound & ((1u << kLowerBits) - 1);  // 0: what the planes leave undecided is dropped
    const std::size_t wordCount = keptBitWords(count);
    for (std::size_t w = 0; w < wordCount; w += kPlaneWords) {
        std::uint32_t kept[kPlaneWords], undecided[kPlaneWords];
        const std::uint64_t begin = first + w * 32;
        comparePlanes(stream, kPlanes * (begin / kPlaneElements), planes, bound, kept, undecided);
        for (std::size_t place = 0; place < (lowerBound == 0 ? 0 : kPlaneWords); ++place) {
            for (std::uint32_t open = undecided[place]; open != 0; open &= open - 1) {
                const auto k = static_cast<unsigned>(std::countr_zero(open));
                const std::uint64_t e = begin + elementOfBit(place, k);
                if (lowerBits(stream, e) < lowerBound) kept[place] |= 1u << k;
            }
        }
        std::copy_n(kept, std::min(kPlaneWords, wordCount - w), words + w);
    }
}

}  // namespace aimerge
