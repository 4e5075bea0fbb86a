#pragma once
// How the teachers' texts (aimerge/calibration/featcal.h) are shared out over the ranks.

#include "aimerge/calibration/featcal.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace aimerge {

/// Consecutive forward steps of a teacher's texts, whose sums are taken by themselves.
struct TextPart {
    std::size_t teacher = 0;
    int number = 0;                           // among the teacher's
    std::int64_t firstStep = 0, endStep = 0;  // [firstStep, endStep)
};

/// All parts of all teachers, in order: of a teacher 1, 2, 4 or 8, each of at least
/// fewestTokensOfPart() where there are several.
std::vector<TextPart> textParts(std::span<const FeatcalTeacher> teachers, bool onGpu);

std::int64_t tokensOf(std::span<const FeatcalTeacher> teachers);

/// The parts that a rank takes of all ranks' parts: consecutive ones, as many as the others or one more.
/// @param ranks with texts; the others have none
std::span<const TextPart> partsOfRank(std::span<const TextPart> parts, int rank, int ranks);

/// A teacher's among these consecutive parts, as a PartTree has them: first and count of each node.
std::vector<std::pair<int, int>> nodesOfTeacher(std::span<const TextPart> parts, std::size_t teacher);

}  // namespace aimerge
