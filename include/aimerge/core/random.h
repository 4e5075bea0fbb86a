#pragma once
// Counter-based random numbers: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2,
// 3" (SC'11). A number is a pure function of (seed, stream, index), so it depends on no rank, thread or order of evaluation.

#include "aimerge/core/host_device.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aimerge {

template <typename Word>
struct PhiloxWords {
    Word word[4];
};
using PhiloxBlock = PhiloxWords<std::uint32_t>;

/// Ten rounds of the bijection on 128 bits, keyed by 64 bits. In words of 64 bits the upper halves are of no account:
/// vectors of them need not move products from lane to lane.
template <typename Word = std::uint32_t>
AIMERGE_HD inline PhiloxWords<Word> philox4x32(PhiloxWords<Word> counter, std::uint64_t key) {
    std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * static_cast<std::uint32_t>(counter.word[0]);
        const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * static_cast<std::uint32_t>(counter.word[2]);
        counter = {{static_cast<Word>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<Word>(product1),
                    static_cast<Word>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<Word>(product0)}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/// The numbers of one stream, by index. Streams of one seed are independent of each other.
struct RandomStream {
    std::uint64_t seed = 0;
    std::uint64_t stream = 0;

    /// Words 4 blockIndex ... 4 blockIndex + 3 at once.
    AIMERGE_HD PhiloxBlock block(std::uint64_t blockIndex) const {
        return philox4x32({{static_cast<std::uint32_t>(blockIndex), static_cast<std::uint32_t>(blockIndex >> 32),
                            static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}},
                          seed);
    }

    AIMERGE_HD std::uint32_t word(std::uint64_t index) const { return block(index / 4).word[index % 4]; }

    /// Uniform in [0, 1), a multiple of 2^-24, so exact in float32.
    AIMERGE_HD float uniform(std::uint64_t index) const { return static_cast<float>(word(index) >> 8) * 0x1p-24f; }
};

/// A permutation of 0 ... count-1, uniform and a function of (count, seed) alone (Fisher-Yates).
std::vector<std::size_t> seededPermutation(std::size_t count, std::uint64_t seed);

}  // namespace aimerge
