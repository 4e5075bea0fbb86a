#include "merge/random_words.h"

#include "aimerge/core/hash.h"
#include "merge/vectorised.h"

#include <cmath>

namespace aimerge {
namespace {

constexpr std::uint64_t kGroup = 64, kBlocks = 16;

/// Groups [group, group + groups), 64 words each.
void fillGroups(const RandomStream& stream, std::uint64_t group, std::size_t groups, std::uint32_t* words) {
    vectorised([=]() AIMERGE_INLINE_BODY {
        for (std::size_t g = 0; g < groups; ++g) {
            std::uint32_t* const to = words + g * kGroup;
            const std::uint64_t firstBlock = kBlocks * (group + g);
            const auto high = static_cast<std::uint32_t>(firstBlock >> 32);  // 16 blocks never cross a multiple of 2^32
#pragma GCC ivdep
            for (std::uint32_t lane = 0; lane < kBlocks; ++lane) {
                const PhiloxBlock block = philox4x32(
                    {{static_cast<std::uint32_t>(firstBlock) + lane, high, static_cast<std::uint32_t>(stream.stream),
                      static_cast<std::uint32_t>(stream.stream >> 32)}},
                    stream.seed);
                for (std::size_t word = 0; word < 4; ++word) to[word * kBlocks + lane] = block.word[word];
            }
        }
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
    return static_cast<std::uint32_t>(std::ceil(probability * kDraws));
}

const std::uint32_t* RandomWords::fill(const RandomStream& stream, std::int64_t first, std::size_t count) {
    const auto begin = static_cast<std::uint64_t>(first), firstGroup = begin / kGroup;
    const std::uint64_t endGroup = (begin + count + kGroup - 1) / kGroup;
    const auto groups = static_cast<std::size_t>(endGroup - firstGroup);
    if (words_.size() < groups * kGroup) words_.resize(groups * kGroup);
    fillGroups(stream, firstGroup, groups, words_.data());
    return words_.data() + begin % kGroup;
}

}  // namespace aimerge
