#include "merge/kept_magnitude.h"

#include "aimerge/core/bfloat.h"
#include "merge/vectorised.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace aimerge {
namespace {

constexpr std::size_t kLanes = 16;

/// Element i of a span adds to lane i mod kLanes: one chain of additions per lane, however the span is cut into chunks.
struct SpanSums {
    std::array<double, kLanes> all{}, kept{};
};

void addChunk(const float* base, const float* input, std::size_t count, std::uint32_t leastKept, std::size_t firstLane,
              SpanSums& sums) {
    SpanSums* const to = &sums;
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto add = [&](std::size_t i, std::size_t lane) AIMERGE_INLINE_BODY {
            const std::uint32_t key = bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
            to->all[lane] += floatOfBits(key);
            to->kept[lane] += floatOfBits(selectBits(key >= leastKept, key, 0u));
        };
        std::size_t i = 0;
        for (; i < count && (firstLane + i) % kLanes != 0; ++i) add(i, (firstLane + i) % kLanes);
        for (; i + kLanes <= count; i += kLanes)
            for (std::size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
        for (; i < count; ++i) add(i, (firstLane + i) % kLanes);
    });
}

double sumOf(const std::array<double, kLanes>& lanes) {
    return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

double factorOf(const std::vector<SpanSums>& spans) {
    double all = 0, kept = 0;
    for (const SpanSums& span : spans) {
        all += sumOf(span.all);
        kept += sumOf(span.kept);
    }
    return all < 1e-7 || kept < 1e-7 ? 1.0 : all / kept;
}

}  // namespace

std::vector<double> rescaleFactors(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                   std::span<const MagnitudeCut> cuts) {
    std::vector<std::size_t> wanted;
    for (const SelectionRequest& request : requests) wanted.push_back(request.input);
    std::vector<std::vector<SpanSums>> sums(requests.size(), std::vector<SpanSums>(parameter.spans()));

    parameter.visitAll(wanted, [&](const ParameterChunk& chunk) {
        for (std::size_t i = 0; i < requests.size(); ++i) {
            const float* const input = chunk.inputs[requests[i].input];
            const auto count = static_cast<std::int64_t>(chunk.count);
            const std::int64_t before =
                std::clamp<std::int64_t>(cuts[i].equalEnd - chunk.first, 0, count);  // equal ones are kept
            const auto addPart = [&](std::int64_t from, std::int64_t to, std::uint32_t leastKept) {
                const auto lane = static_cast<std::size_t>(chunk.first + from) % kLanes;
                addChunk(chunk.base + from, input + from, static_cast<std::size_t>(to - from), leastKept, lane,
                         sums[i][chunk.span]);
            };
            addPart(0, before, cuts[i].magnitude);
            addPart(before, count, cuts[i].magnitude + 1);
        }
    });

    std::vector<double> factors;
    for (const auto& spans : sums) factors.push_back(factorOf(spans));
    return factors;
}

}  // namespace aimerge
