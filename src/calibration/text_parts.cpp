#include "calibration/text_parts.h"

#include "aimerge/calibration/featcal_cost.h"
#include "calibration/feature_sums.h"

#include <algorithm>
#include <bit>

namespace aimerge {

std::int64_t tokensOf(std::span<const FeatcalTeacher> teachers) {
    std::int64_t tokens = 0;
    for (const FeatcalTeacher& teacher : teachers) tokens += teacher.blocks.blocks * teacher.blocks.length;
    return tokens;
}

std::vector<TextPart> textParts(std::span<const FeatcalTeacher> teachers, bool onGpu) {
    constexpr std::int64_t kMostParts = 8;
    std::vector<TextPart> parts;
    for (std::size_t t = 0; t < teachers.size(); ++t) {
        const std::int64_t steps = (teachers[t].blocks.blocks + teachers[t].microBatch - 1) / teachers[t].microBatch;
        const std::int64_t wanted =
            std::clamp<std::int64_t>(tokensOf(teachers.subspan(t, 1)) / fewestTokensOfPart(onGpu), 1, kMostParts);
        // A power of two: the sums of all parts are then one node of their tree, whoever has them.
        const auto count = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::min(wanted, steps))));
        for (std::int64_t p = 0; p < count; ++p)
            parts.push_back({t, static_cast<int>(p), steps * p / count, steps * (p + 1) / count});
    }
    return parts;
}

std::span<const TextPart> partsOfRank(std::span<const TextPart> parts, int rank, int ranks) {
    if (rank >= ranks) return {};
    const auto firstOf = [&](int r) { return parts.size() * static_cast<std::size_t>(r) / static_cast<std::size_t>(ranks); };
    return parts.subspan(firstOf(rank), firstOf(rank + 1) - firstOf(rank));
}

std::vector<std::pair<int, int>> nodesOfTeacher(std::span<const TextPart> parts, std::size_t teacher) {
    int first = 0, end = 0;
    for (const TextPart& part : parts) {
        if (part.teacher != teacher) continue;
        if (end == 0) first = part.number;
        end = part.number + 1;
    }
    return PartTree::nodesOf(first, end);
}

}  // namespace aimerge
