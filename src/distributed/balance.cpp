#include "distributed/balance.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace aimerge {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

/// Dynamic programming over best[p][n], the best way to cut the first n elements into p parts.
/// @param join (best of the parts before, cost of the last part) -> the whole's
template <typename Join>
std::vector<std::size_t> bestEnds(const std::vector<double>& sums, std::size_t parts, Join join) {
    const std::size_t count = sums.size() - 1;
    std::vector<std::vector<double>> best(parts + 1, std::vector<double>(count + 1, kImpossible));
    std::vector<std::vector<std::size_t>> begin(parts + 1, std::vector<std::size_t>(count + 1, 0));
    best[0][0] = 0;
    for (std::size_t p = 1; p <= parts; ++p) {
        for (std::size_t n = p; n <= count; ++n) {
            for (std::size_t first = p - 1; first < n; ++first) {
                const double whole = join(best[p - 1][first], sums[n] - sums[first]);
                if (whole < best[p][n]) best[p][n] = whole, begin[p][n] = first;
            }
        }
    }
    std::vector<std::size_t> ends(parts);
    for (std::size_t p = parts, end = count; p > 0; --p) {
        ends[p - 1] = end;
        end = begin[p][end];
    }
    return ends;
}

double largestPart(const std::vector<double>& sums, const std::vector<std::size_t>& ends) {
    double largest = 0;
    std::size_t first = 0;
    for (const std::size_t end : ends) {
        largest = std::max(largest, sums[end] - sums[first]);
        first = end;
    }
    return largest;
}

}  // namespace

std::vector<std::size_t> balanceContiguous(std::span<const double> costs, std::size_t parts) {
    std::vector<double> sums(costs.size() + 1, 0.0);
    std::partial_sum(costs.begin(), costs.end(), sums.begin() + 1);
    const auto maximum = [](double before, double last) { return std::max(before, last); };
    const double limit = largestPart(sums, bestEnds(sums, parts, maximum));
    return bestEnds(sums, parts,
                    [limit](double before, double last) { return last > limit ? kImpossible : before + last * last; });
}

}  // namespace aimerge
