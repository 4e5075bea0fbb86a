#include "merge/selection/kept_magnitude.h"

namespace aimerge {

double rescaleFactor(std::span<const MagnitudeSums> parts) {
    double all = 0, kept = 0;
    for (const MagnitudeSums& part : parts) {
        all += sumOf(part.all);
        kept += sumOf(part.kept);
    }
    return all < 1e-7 || kept < 1e-7 ? 1.0 : all / kept;
}

std::vector<float> rescaleFactors(ParameterReader& parameter, std::span<const KeptRange> ranges,
                                  std::span<const std::size_t> trimmed) {
    std::vector<std::vector<MagnitudeSums>> sums(trimmed.size(), std::vector<MagnitudeSums>(parameter.spans()));
    parameter.visitAll(trimmed, [&](const ParameterChunk& chunk) {
        for (std::size_t i = 0; i < trimmed.size(); ++i) {
            const float* const input = chunk.inputs[trimmed[i]];
            forEachUniformRun(ranges.subspan(trimmed[i], 1), chunk.first, chunk.count,
                              [&](const MagnitudeBits& bits, std::size_t offset, std::size_t count) {
                                  const std::uint32_t least = bits.least[0], dropped = bits.dropped[0];
                                  const ChangeMagnitude magnitude{chunk.base + offset, input + offset};
                                  const auto kept = [=](std::size_t e) AIMERGE_INLINE_BODY {
                                      const std::uint32_t own = magnitude(e);
                                      return selectBits((own >= least) & (own < dropped), own, 0u);
                                  };
                                  addMagnitudes(count, (static_cast<std::size_t>(chunk.first) + offset) % kLanes, magnitude,
                                                kept, sums[i][chunk.span]);
                              });
        }
    });
    std::vector<float> factors(parameter.inputs(), 1.0f);
    for (std::size_t i = 0; i < trimmed.size(); ++i) factors[trimmed[i]] = static_cast<float>(rescaleFactor(sums[i]));
    return factors;
}

}  // namespace aimerge
