#include "merge/methods/nearswap.h"

#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

ResolvedParameters withT(double t) {
    return {.shared = {t}, .perInput = {{}}};
}

TEST(Nearswap, TakesOverWhatIsNearAndMovesTheRestByT) {
    EXPECT_THAT(combined(nearswapMethod(), withT(1), {0, 0, 0, 8, 2}, {{0.5f, 4, -4, 8, 1}}),
                ElementsAre(0.5f, 1, -1, 8, 1));
}

TEST(Nearswap, WithoutTIsTheBase) {
    const Floats base{-0.0f, 0.3f, 1};
    EXPECT_EQ(bitsOf(combined(nearswapMethod(), withT(0), base, {{1, -0.2f, 1}})), bitsOf(base));
}

TEST(Nearswap, OfAnUnchangedModelHasTheBasesBitsAlsoBelowTheLeastDistance) {
    const Floats base = normalValues(1000, 1, 0.02f);
    EXPECT_EQ(bitsOf(combined(nearswapMethod(), withT(3e-7), base, {base})), bitsOf(base));
}

TEST(Nearswap, WithALargeTIsTheOtherModel) {
    const Floats base = normalValues(1000, 1, 0.02f), other = normalValues(1000, 2, 0.02f);
    EXPECT_EQ(bitsOf(combined(nearswapMethod(), withT(1), base, {other})), bitsOf(other));
}

}  // namespace
}  // namespace aimerge
