#include "merge/methods/ram.h"

#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

TEST(Ram, AveragesOverTheExpertsThatChangedTheElement) {
    const auto values = parameters(ramMethod(), {});
    // One alone, two, none, and a change below the epsilon of 1e-5.
    EXPECT_THAT(combined(ramMethod(), values, {0, 0, 8, 1}, {{4, 2, 8, 1}, {0, 4, 8, 1 + 0x1p-20f}}),
                ElementsAre(4, 3, 8, 1));
}

TEST(Ram, DropsChangesUpToEpsilon) {
    auto values = parameters(ramMethod(), {});
    setShared(ramMethod(), values, "epsilon", 2);
    EXPECT_THAT(combined(ramMethod(), values, {0, 0, 0}, {{2, -2, -3}, {8, 1, 5}}), ElementsAre(8, 0, 1));
}

TEST(Ram, OfUnchangedExpertsHasTheBasesBits) {
    const Floats base{-0.0f, 0.0f, 0.3f};
    EXPECT_EQ(bitsOf(combined(ramMethod(), parameters(ramMethod(), {}), base, {base, base})), bitsOf(base));
}

TEST(RamPlus, AmplifiesWhatOneExpertAloneChanged) {
    auto values = parameters(ramPlusMethod(), {});
    setShared(ramPlusMethod(), values, "r", 0.5);
    setShared(ramPlusMethod(), values, "alpha", 2);
    // First: 1 alone, 1 shared, so 1 + 0.5. Second: 2 alone, 1 shared, so 1 + 0.25.
    const std::vector<Floats> inputs{{8, 2, 0, 0, 0}, {0, 6, 4, 8, 0}};
    EXPECT_THAT(combined(ramPlusMethod(), values, {0, 0, 0, 0, 0}, inputs), ElementsAre(12, 4, 5, 10, 0));

    setShared(ramPlusMethod(), values, "alpha", 0.25);
    EXPECT_THAT(combined(ramPlusMethod(), values, {0, 0, 0, 0, 0}, inputs), ElementsAre(9, 4, 4.5f, 9, 0));
}

TEST(RamPlus, TakesAnExpertThatChangedNothingAlone) {
    auto values = parameters(ramPlusMethod(), {});
    setShared(ramPlusMethod(), values, "r", 0.5);
    setShared(ramPlusMethod(), values, "alpha", 2);
    EXPECT_THAT(combined(ramPlusMethod(), values, {0, 0}, {{2, 0}, {4, 8}}), ElementsAre(3, 12));
}

TEST(RamPlus, CountsOverChunksAndThreads) {
    auto values = parameters(ramPlusMethod(), {});
    setShared(ramPlusMethod(), values, "r", 1);
    setShared(ramPlusMethod(), values, "alpha", 10);
    // Of 140000 elements the first expert changes all, the second every fourth: shared / unique = 1/3 and 35000 / 0.
    Floats base(140000), first(base.size(), 3), second(base.size());
    for (std::size_t i = 0; i < base.size(); i += 4) second[i] = 1;
    const Floats out = combined(ramPlusMethod(), values, base, {first, second}, 3);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_FLOAT_EQ(out[i], i % 4 == 0 ? 2.0f : 4.0f) << i;
}

}  // namespace
}  // namespace aimerge
