#include "distributed/balance.h"

#include "aimerge/core/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace aimerge {
namespace {

using testing::ElementsAre;

std::vector<double> partCosts(const std::vector<double>& costs, const std::vector<std::size_t>& ends) {
    std::vector<double> parts;
    std::size_t first = 0;
    for (const std::size_t end : ends) {
        parts.push_back(std::accumulate(costs.begin() + static_cast<std::ptrdiff_t>(first),
                                        costs.begin() + static_cast<std::ptrdiff_t>(end), 0.0));
        first = end;
    }
    return parts;
}

/// Smallest possible maximum, by trying every cut.
double optimum(const std::vector<double>& costs, std::size_t first, std::size_t parts) {
    if (parts == 1) return std::accumulate(costs.begin() + static_cast<std::ptrdiff_t>(first), costs.end(), 0.0);
    double best = std::numeric_limits<double>::infinity(), head = 0;
    for (std::size_t end = first + 1; end + parts - 1 <= costs.size(); ++end) {
        head += costs[end - 1];
        best = std::min(best, std::max(head, optimum(costs, end, parts - 1)));
    }
    return best;
}

TEST(Balance, OfEqualCostsIsEven) {
    EXPECT_THAT(balanceContiguous(std::vector<double>(10, 1.0), 4), ElementsAre(2, 4, 7, 10));
    EXPECT_THAT(balanceContiguous(std::vector<double>(7, 1.0), 7), ElementsAre(1, 2, 3, 4, 5, 6, 7));
    EXPECT_THAT(balanceContiguous(std::vector<double>(5, 1.0), 1), ElementsAre(5));
}

TEST(Balance, GivesTheExpensiveEndFewerElements) {
    EXPECT_THAT(balanceContiguous(std::vector<double>{5, 1, 1, 1, 1, 1}, 2), ElementsAre(1, 6));
    EXPECT_THAT(balanceContiguous(std::vector<double>{1, 1, 1, 1, 1, 9}, 3), ElementsAre(2, 5, 6));
}

TEST(Balance, OfCostsOfZeroStillGivesEveryPartAnElement) {
    EXPECT_THAT(balanceContiguous(std::vector<double>(3, 0.0), 3), ElementsAre(1, 2, 3));
}

TEST(Balance, IsOptimalForAnyCosts) {
    const RandomStream random{7, 0};
    std::uint64_t draw = 0;
    for (std::size_t count = 1; count <= 9; ++count) {
        for (std::size_t parts = 1; parts <= count; ++parts) {
            for (int repetition = 0; repetition < 20; ++repetition) {
                std::vector<double> costs(count);
                for (double& cost : costs) cost = static_cast<double>(random.word(draw++) % 12);  // sums are exact

                const std::vector<std::size_t> ends = balanceContiguous(costs, parts);

                ASSERT_EQ(ends.size(), parts);
                ASSERT_EQ(ends.back(), count);
                ASSERT_TRUE(std::is_sorted(ends.begin(), ends.end(), std::less_equal<>())) << "an empty part";
                const std::vector<double> parted = partCosts(costs, ends);
                ASSERT_EQ(*std::max_element(parted.begin(), parted.end()), optimum(costs, 0, parts));
            }
        }
    }
}

}  // namespace
}  // namespace aimerge
