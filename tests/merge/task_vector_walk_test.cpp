// The sums and consensuses of changes, in every walk.

#include "merge/combine/task_vectors.h"
#include "merge/strided_walk_cases.h"

namespace aimerge {
namespace {

template <int kInputs, Normalize kNormalize>
void expectSumsToAgree() {
    constexpr PerInput<float, kInputs> weights = someWeights<kInputs>();
    const auto least = someMagnitudes<kInputs>(0.05f), dropped = someMagnitudes<kInputs>(0.15f);
    expectTheBitsOfTheCpu<kInputs>("sum of all", [=](PerElement) {
        return SumCombine<KeepAll, kInputs, kNormalize>{{}, weights, 1.7f, 0.7f};
    });
    expectTheBitsOfTheCpu<kInputs>("sum of a range", [=](PerElement) {
        return SumCombine<KeepBetween, kInputs, kNormalize>{{least, dropped, weights}, weights, 1.7f, 0.7f};
    });
    expectTheBitsOfTheCpu<kInputs>("sum of scaled changes", [=](PerElement each) {
        return SumCombine<ScaleEach, kInputs, kNormalize>{{each.ofInputs<kInputs>()}, weights, 1.7f, 0.7f};
    });
}

template <int kInputs, Normalize kNormalize>
void expectConsensusesToAgree() {
    constexpr PerInput<float, kInputs> weights = someWeights<kInputs>();
    const auto least = someMagnitudes<kInputs>(0.05f), dropped = someMagnitudes<kInputs>(0.15f);
    expectTheBitsOfTheCpu<kInputs>("consensus of the largest", [=](PerElement) {
        return ConsensusCombine<KeepFrom, kInputs, kNormalize>{{least, weights}, weights, 0.7f};
    });
    expectTheBitsOfTheCpu<kInputs>("consensus of a range", [=](PerElement) {
        return ConsensusCombine<KeepBetween, kInputs, kNormalize>{{least, dropped, weights}, weights, 0.7f};
    });
    expectTheBitsOfTheCpu<kInputs>("consensus of scaled changes", [=](PerElement each) {
        return ConsensusCombine<ScaleEach, kInputs, kNormalize>{{each.ofInputs<kInputs>()}, weights, 0.7f};
    });
}

TEST(TaskVectorWalk, OfSumsHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) {
        expectSumsToAgree<decltype(inputs)::value, Normalize::No>();
        expectSumsToAgree<decltype(inputs)::value, Normalize::Yes>();
    });
}

TEST(TaskVectorWalk, OfConsensusesHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) {
        expectConsensusesToAgree<decltype(inputs)::value, Normalize::No>();
        expectConsensusesToAgree<decltype(inputs)::value, Normalize::Yes>();
    });
}

}  // namespace
}  // namespace aimerge
