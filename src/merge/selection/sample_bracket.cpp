#include "merge/selection/sample_bracket.h"

#include "aimerge/core/random.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

/// Elements per run: half a KiB of BF16, so that a run costs about as much as it takes to get there.
constexpr std::int64_t kRun = 256;

/// A sample of (2N)^(2/3) balances its own cost against that of the values it leaves in the bracket.
std::int64_t sampledRuns(std::int64_t elements, const SelectionSettings& settings) {
    const auto wanted = static_cast<std::int64_t>(std::pow(2.0 * static_cast<double>(elements), 2.0 / 3.0));
    return std::clamp(std::min(wanted, settings.mostSampled) / kRun, std::int64_t{1}, elements / kRun);
}

/// keys[request]: runs one after the other.
std::vector<std::vector<std::uint32_t>> sampleKeys(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                                   std::int64_t runs) {
    std::vector<std::vector<std::uint32_t>> keys(requests.size(),
                                                 std::vector<std::uint32_t>(static_cast<std::size_t>(runs * kRun)));
    std::vector<std::size_t> wanted;
    for (const SelectionRequest& request : requests) wanted.push_back(request.input);

    const RandomStream places{.seed = 0x5a4d'504c'45, .stream = 0};
    const std::int64_t stretch = parameter.elements() / runs;
    parameter.threads().forEach(static_cast<std::size_t>(runs), [&](std::size_t run, int worker) {
        const double draw = places.uniform(run);
        const std::int64_t first = static_cast<std::int64_t>(run) * stretch +
                                   static_cast<std::int64_t>(draw * static_cast<double>(stretch - kRun + 1));
        parameter.visit(first, kRun, wanted, worker, [&](const ParameterChunk& chunk) {
            const std::size_t at = run * kRun + static_cast<std::size_t>(chunk.first - first);
            for (std::size_t i = 0; i < requests.size(); ++i)
                keysOf(chunk.base, chunk.inputs[requests[i].input], chunk.count, keys[i].data() + at);
        });
    });
    return keys;
}

/// Standard deviation of the share of keys above `middle`, from its variation between the runs: neighbouring elements (a
/// row, a head) may be alike, and then a sample tells less than its size suggests.
double deviationOfShare(std::span<const std::uint32_t> keys, std::uint32_t middle, double share) {
    const std::size_t runs = keys.size() / kRun;
    double sum = 0, squares = 0;
    for (std::size_t run = 0; run < runs; ++run) {
        const auto part = keys.subspan(run * kRun, kRun);
        const double above =
            static_cast<double>(std::count_if(part.begin(), part.end(), [&](auto key) { return key > middle; })) / kRun;
        sum += above;
        squares += above * above;
    }
    const double count = static_cast<double>(runs), mean = sum / count;
    const double betweenRuns = std::max(0.0, squares / count - mean * mean) / count;
    const double independent = share * (1 - share) / (count * kRun);
    return std::sqrt(std::max(betweenRuns, independent));
}

/// The share of the elements that is wanted, and the standard deviation of its estimate.
struct Wanted {
    double share, deviation = 0;
};

Wanted wantedOf(const SelectionRequest& request, std::span<const std::uint32_t> keys, std::int64_t elements) {
    if (!request.ofNonzero) return {static_cast<double>(request.keep) / static_cast<double>(elements)};
    const double part = *request.ofNonzero;
    const auto zeros = static_cast<double>(std::ranges::count(keys, 0u));
    const double nonzero = 1 - zeros / static_cast<double>(keys.size());
    return {part * nonzero, part * deviationOfShare(keys, 0, nonzero)};
}

KeyBracket bracketOf(std::span<const std::uint32_t> keys, const Wanted& wanted, double deviations) {
    const double share = wanted.share;
    const auto size = static_cast<double>(keys.size());
    const auto rankOf = [&](double part) { return static_cast<std::int64_t>(std::llround(part * size)); };
    const KeyRanking ranking({&keys, 1}, KeyBracket{});
    const auto keyOfRank = [&](std::int64_t rank) { return ranking.kthLargest(static_cast<std::size_t>(rank)); };

    const std::int64_t most = static_cast<std::int64_t>(keys.size());
    const std::uint32_t middle = keyOfRank(std::clamp(rankOf(share), std::int64_t{1}, most));
    const double margin = deviations * (deviationOfShare(keys, middle, share) + wanted.deviation) + 2 / size;
    const std::int64_t highRank = rankOf(share - margin), lowRank = rankOf(share + margin);
    return {lowRank <= most ? keyOfRank(std::max(lowRank, std::int64_t{1})) : 0,
            highRank >= 1 ? keyOfRank(highRank) : kLargestKey};
}

}  // namespace

std::vector<KeyBracket> sampleBrackets(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                       const SelectionSettings& settings) {
    const std::int64_t elements = parameter.elements();
    std::vector<KeyBracket> brackets(requests.size());
    if (elements <= settings.sampleFrom || elements < 2 * kRun) return brackets;

    const auto keys = sampleKeys(parameter, requests, sampledRuns(elements, settings));
    parameter.threads().forEach(requests.size(), [&](std::size_t i, int) {
        brackets[i] = bracketOf(keys[i], wantedOf(requests[i], keys[i], elements), settings.bracketDeviations);
    });
    return brackets;
}

}  // namespace aimerge
