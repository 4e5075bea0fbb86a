#include "merge/selection/element_draws.h"

#include "aimerge/core/hash.h"
#include "merge/combine/vectorised.h"
#include "merge/selection/kept_bits.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

constexpr std::uint64_t kGroup = 128, kBlocks = 16;

/// Groups [group, group + groups), 128 halves each.
void fillGroups(const RandomStream& stream, std::uint64_t group, std::size_t groups, std::uint16_t* draws) {
    withPhiloxWord([=](auto zero) {
        vectorised([=]() AIMERGE_INLINE_BODY {
            for (std::size_t g = 0; g < groups; ++g) {
                std::uint16_t* const to = draws + g * kGroup;
                const std::uint64_t firstBlock = kBlocks * (group + g);
#pragma GCC ivdep
                for (std::uint32_t lane = 0; lane < kBlocks; ++lane) {
                    const PhiloxBlock block = blockOfLane<decltype(zero)>(stream, firstBlock, lane);
                    for (std::size_t word = 0; word < 4; ++word) {
                        to[2 * word * kBlocks + lane] = static_cast<std::uint16_t>(block.word[word]);
                        to[(2 * word + 1) * kBlocks + lane] = static_cast<std::uint16_t>(block.word[word] >> 16);
                    }
                }
            }
        });
    });
}

}  // namespace

RandomStream elementStream(std::uint64_t seed, const std::string& parameter, std::size_t expert) {
    const Digest digest = Hasher().updateField(parameter).updateField(std::to_string(expert)).digest();
    std::uint64_t stream = 0;
    for (std::size_t i = 0; i < 8; ++i) stream = stream << 8 | digest.bytes[i];
    return {.seed = seed, .stream = stream};
}

std::uint32_t keepBound(double probability) {
    return static_cast<std::uint32_t>(std::min(std::ceil(probability * 0x1p32), 0x1p32 - 1));
}

const std::uint16_t* UpperDraws::fill(const RandomStream& stream, std::int64_t first, std::size_t count) {
    const auto begin = static_cast<std::uint64_t>(first), firstGroup = begin / kGroup;
    const std::uint64_t endGroup = (begin + count + kGroup - 1) / kGroup;
    const auto groups = static_cast<std::size_t>(endGroup - firstGroup);
    draws_.resize(std::max(draws_.size(), groups * kGroup + kBitGroup));
    fillGroups(stream, firstGroup, groups, draws_.data());
    return draws_.data() + begin % kGroup;
}

}  // namespace aimerge
