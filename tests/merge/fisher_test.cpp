#include "merge/methods/fisher.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

/// Merges models whose Fisher values are given. Values are small multiples of powers of two: results are exact.
Floats fisherMerge(const std::vector<double>& weights, std::vector<Floats> models, const std::vector<Floats>& fisher) {
    const std::size_t elements = models.front().size();
    TensorMerge merge = tensorMerge(fisherMethod(), parameters(fisherMethod(), weights),
                                    {static_cast<std::int64_t>(elements)}, Floats(elements, 100), models);
    for (const Floats& values : fisher) merge.statistics.push_back(std::make_shared<MemorySource>("fisher", values));
    ThreadPool pool(1);
    MemorySink sink;
    mergeTensors({&merge, 1}, {}, DeltaRounding::None, pool, sink);
    return sink.values<float>(0);
}

TEST(Fisher, WeighsEveryElementByItsInformation) {
    // (1*4 + 3*8) / 4 = 7, (3*4 + 1*8) / 4 = 5, and all information with the second model.
    EXPECT_THAT(fisherMerge({1, 1}, {{4, 4, 4}, {8, 8, 8}}, {{1, 3, 0}, {3, 1, 2}}), ElementsAre(7, 5, 8));
}

TEST(Fisher, MultipliesInformationByTheWeight) {
    // weights 3 and 1, information 1 and 1: (3*4 + 8) / 4.
    EXPECT_THAT(fisherMerge({3, 1}, {{4}, {8}}, {{1}, {1}}), ElementsAre(5));
}

TEST(Fisher, TakesTheWeightedMeanWhereNoModelHasInformation) {
    // (3*4 + 8) / 4; the last element is below the default floor of 1e-30, although the ratio would be 8.
    EXPECT_THAT(fisherMerge({3, 1}, {{4, 4}, {8, 8}}, {{0, 0}, {0, 1e-31f}}), ElementsAre(5, 5));
}

TEST(Fisher, LeavesAModelOfWeightZeroOut) {
    EXPECT_THAT(fisherMerge({0, 1}, {{4, 4}, {8, 8}}, {{5, 0}, {1, 0}}), ElementsAre(8, 8));
}

TEST(Fisher, OfEqualModelsIsExactlyThatModel) {
    const Floats same = normalValues(4096, 1, 0.02f);
    Floats information = normalValues(4096, 2, 1e-3f);
    for (float& value : information) value *= value;
    EXPECT_EQ(bitsOf(fisherMerge({0.1, 0.7, 0.3}, {same, same, same}, {information, same, information})), bitsOf(same));
}

TEST(Fisher, TakesMoreModelsThanAreUnrolled) {
    std::vector<Floats> models, fisher;
    for (int i = 0; i < 9; ++i) {
        models.push_back({static_cast<float>(i)});
        fisher.push_back({i >= 7 ? 1.0f : 0.0f});
    }
    EXPECT_THAT(fisherMerge(std::vector<double>(9, 1), models, fisher), ElementsAre(7.5f));
}

TEST(Fisher, RefusesWeightsThatAreAllZero) {
    EXPECT_TRUE(fisherMethod().check(parameters(fisherMethod(), {0, 0})));
    EXPECT_FALSE(fisherMethod().check(parameters(fisherMethod(), {0, 1})));
}

}  // namespace
}  // namespace aimerge
