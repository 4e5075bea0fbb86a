#include "merge/selection/key_bracket.h"

#include "aimerge/core/bfloat.h"
#include "merge/combine/vectorised.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace aimerge {
namespace {

__attribute__((always_inline)) inline std::uint32_t keyOf(float base, float input) {
    return bitsOfFloat(input - base) & 0x7FFFFFFFu;
}

#if defined(__x86_64__)
AIMERGE_TARGET_AVX512 inline __m512i everywhere(std::uint32_t value) {
    return _mm512_set1_epi32(static_cast<int>(value));
}

AIMERGE_TARGET_AVX512 inline std::uint32_t sumOfLanes(__m512i lanes) {
    alignas(64) std::array<std::uint32_t, 16> values;
    _mm512_store_si512(values.data(), lanes);
    return std::accumulate(values.begin(), values.end(), 0u);
}
#endif

/// What a key is compared with. Ends are counted without a branch, because many elements may share
/// them; few are strictly inside.
struct Comparands {
    explicit Comparands(KeyBracket bracket)
        : high(bracket.high),
          low(bracket.low == bracket.high ? kNoKey : bracket.low),
          firstInside(bracket.low + 1),
          insideWidth(bracket.high > bracket.low ? bracket.high - bracket.low - 1 : 0) {}

    static constexpr std::uint32_t kNoKey = 0xFFFFFFFFu;
    std::uint32_t high, low, firstInside, insideWidth;  // inside: key - firstInside < insideWidth
};

/// In groups of 32: the compiler vectorises the counting, and only groups with something inside are looked at closely.
std::size_t tallyPortably(const float* base, const float* input, std::size_t count, KeyBracket bracket, BracketTally& tally,
                          std::uint32_t* collected) {
    const Comparands with(bracket);
    BracketTally* const to = &tally;
    return vectorised([=]() AIMERGE_INLINE_BODY {
        constexpr std::size_t kGroup = 32;
        BracketTally counts;
        std::size_t appended = 0;
        for (std::size_t begin = 0; begin < count; begin += kGroup) {
            std::uint32_t keys[kGroup];
            const std::size_t size = std::min(kGroup, count - begin);
            std::uint32_t above = 0, high = 0, low = 0, inside = 0;
            for (std::size_t i = 0; i < size; ++i) {
                const std::uint32_t key = keyOf(base[begin + i], input[begin + i]);
                keys[i] = key;
                above += key > with.high;
                high += key == with.high;
                low += key == with.low;
                inside += key - with.firstInside < with.insideWidth;
            }
            counts.above += above;
            counts.high += high;
            counts.low += low;
            counts.inside += inside;
            if (inside == 0 || collected == nullptr) continue;
            for (std::size_t i = 0; i < size; ++i) {
                collected[appended] = keys[i];
                appended += keys[i] - with.firstInside < with.insideWidth;
            }
        }
        to->above += counts.above;
        to->high += counts.high;
        to->low += counts.low;
        to->inside += counts.inside;
        return appended;
    });
}

#if defined(__x86_64__)
/// As above, with compressing stores, which compilers do not generate by themselves, and without a branch on whether
/// something is inside, which would often be mispredicted.
AIMERGE_TARGET_AVX512 std::size_t tallyAvx512(const float* base, const float* input, std::size_t count, KeyBracket bracket,
                                              BracketTally& tally, std::uint32_t* collected) {
    const Comparands with(bracket);
    const __m512i highKey = everywhere(with.high), lowKey = everywhere(with.low), firstInside = everywhere(with.firstInside);
    const __m512i insideWidth = everywhere(with.insideWidth), signless = everywhere(0x7FFFFFFFu), one = everywhere(1);
    __m512i above = _mm512_setzero_si512(), high = above, low = above;
    std::uint32_t unwanted[16];
    std::size_t insideCount = 0;
    for (std::size_t i = 0; i < count; i += 16) {
        const __mmask16 valid = count - i >= 16 ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << (count - i)) - 1);
        const __m512 delta = _mm512_sub_ps(_mm512_maskz_loadu_ps(valid, input + i), _mm512_maskz_loadu_ps(valid, base + i));
        const __m512i key = _mm512_and_si512(_mm512_castps_si512(delta), signless);
        above = _mm512_mask_add_epi32(above, _mm512_mask_cmpgt_epu32_mask(valid, key, highKey), above, one);
        high = _mm512_mask_add_epi32(high, _mm512_mask_cmpeq_epu32_mask(valid, key, highKey), high, one);
        low = _mm512_mask_add_epi32(low, _mm512_mask_cmpeq_epu32_mask(valid, key, lowKey), low, one);
        const __mmask16 inside = _mm512_mask_cmplt_epu32_mask(valid, _mm512_sub_epi32(key, firstInside), insideWidth);
        _mm512_storeu_si512(collected ? collected + insideCount : unwanted, _mm512_maskz_compress_epi32(inside, key));
        insideCount += static_cast<std::size_t>(std::popcount(inside));
    }
    tally.above += sumOfLanes(above);
    tally.high += sumOfLanes(high);
    tally.low += sumOfLanes(low);
    tally.inside += static_cast<std::uint32_t>(insideCount);
    return collected ? insideCount : 0;
}
#endif

}  // namespace

std::size_t tallyKeys(const float* base, const float* input, std::size_t count, KeyBracket bracket, BracketTally& tally,
                      std::uint32_t* collected) {
#if defined(__x86_64__)
    if (instructionSet() == InstructionSet::Avx512) return tallyAvx512(base, input, count, bracket, tally, collected);
#endif
    return tallyPortably(base, input, count, bracket, tally, collected);
}

void keysOf(const float* base, const float* input, std::size_t count, std::uint32_t* keys) {
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) keys[i] = keyOf(base[i], input[i]);
    });
}

KeyBins::KeyBins(KeyBracket whole) : range(whole) {
    const auto bits = static_cast<unsigned>(std::bit_width(range.high - range.low));
    shift = bits > kBits ? bits - kBits : 0;
}

KeyBracket KeyBins::bracketOf(std::size_t bin) const {
    const std::uint32_t low = range.low + (static_cast<std::uint32_t>(bin) << shift);
    return {low, std::min(range.high, low + ((1u << shift) - 1))};
}

RankedBin binOfRank(std::span<const std::uint64_t> counts, std::uint64_t k) {
    RankedBin found{counts.size() - 1, 0};
    while (found.above + counts[found.bin] < k) found.above += counts[found.bin--];
    return found;
}

KeyRanking::KeyRanking(std::span<const std::span<const std::uint32_t>> parts, KeyBracket range)
    : parts_(parts), bins_(range), counts_(KeyBins::kCount) {
    for (const auto part : parts_)
        for (const std::uint32_t key : part) ++counts_[bins_.binOf(key)];
}

std::uint32_t KeyRanking::kthLargest(std::size_t k) const {
    const RankedBin ranked = binOfRank(counts_, k);
    const KeyBracket wanted = bins_.bracketOf(ranked.bin);
    if (wanted.low == wanted.high) return wanted.low;

    std::vector<std::uint32_t> candidates;
    candidates.reserve(counts_[ranked.bin]);
    for (const auto part : parts_)
        for (const std::uint32_t key : part)
            if (key - wanted.low <= wanted.high - wanted.low) candidates.push_back(key);
    const auto position = candidates.begin() + static_cast<std::ptrdiff_t>(k - ranked.above - 1);
    std::nth_element(candidates.begin(), position, candidates.end(), std::greater<>());
    return *position;
}

}  // namespace aimerge
