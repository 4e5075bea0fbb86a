// The combines that weigh the models and keep every element, in every walk.

#include "merge/combine/weighted_combine.h"
#include "merge/methods/closed_form.h"
#include "merge/methods/fisher.h"
#include "merge/methods/linear.h"
#include "merge/methods/model_stock.h"
#include "merge/methods/passthrough.h"
#include "merge/methods/slerp.h"
#include "merge/strided_walk_cases.h"

namespace aimerge {
namespace {

TEST(MeanWalk, OfOneModelHasTheBitsOfTheCpuMerge) {
    for (const bool isChord : {false, true})
        expectTheBitsOfTheCpu<1>("slerp", [=](PerElement) { return SlerpCombine{0.3f, 0.7f, isChord}; });
    for (const float scale : {1.0f, 0.7f})
        expectTheBitsOfTheCpu<1>("passthrough", [=](PerElement) { return PassthroughCombine{scale}; });
}

template <int kInputs, Normalize kNormalize>
void expectLinearToAgree() {
    expectTheBitsOfTheCpu<kInputs>("linear", [](PerElement) {
        return LinearCombine<kInputs, kNormalize>{someWeights<kInputs>(), 1.7f};
    });
}

TEST(MeanWalk, OfLinearHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) {
        expectLinearToAgree<decltype(inputs)::value, Normalize::No>();
        expectLinearToAgree<decltype(inputs)::value, Normalize::Yes>();
    });
}

template <int kInputs>
void expectCoefficientsToAgree() {
    expectTheBitsOfTheCpu<kInputs>("model stock", [](PerElement) {
        return ModelStockCombine<kInputs>{0.4f, 0.6f, static_cast<float>(kInputs)};
    });
    expectTheBitsOfTheCpu<kInputs>("weighted changes", [](PerElement) {
        return WeightedChangesCombine<kInputs>{someWeights<kInputs>(), 0.1f};
    });
    expectTheBitsOfTheCpu<kInputs>("column-weighted changes", [](PerElement each) {
        return ColumnWeightedChangesCombine<kInputs>{each.ofInputs<kInputs>(), each.values};
    });
}

TEST(MeanWalk, OfCoefficientsHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) { expectCoefficientsToAgree<decltype(inputs)::value>(); });
}

template <Scaled kScaled>
void expectClosedFormsToAgree() {
    expectTheBitsOfTheCpu<2>("closed form", [](PerElement) { return ClosedFormCombine<kScaled>{0.7f}; });
    forEachInputCount([](auto inputs) {
        constexpr int kInputs = decltype(inputs)::value;
        expectTheBitsOfTheCpu<kInputs>("mean of experts", [](PerElement) {
            return ExpertMeanCombine<kInputs, kScaled>{someWeights<kInputs>(), 0.7f};
        });
    });
}

TEST(MeanWalk, OfClosedFormsHasTheBitsOfTheCpuMerge) {
    expectClosedFormsToAgree<Scaled::No>();
    expectClosedFormsToAgree<Scaled::Yes>();
}

TEST(MeanWalk, OfFisherHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto models) {
        constexpr int kModels = decltype(models)::value;
        constexpr PerInput<float, kModels> weights = someWeights<kModels>();
        // Fisher values around 0: in some of the elements their sum is above 0.5.
        expectTheBitsOfTheCpu<2 * kModels>("fisher", [=](PerElement) {
            return FisherCombine<kModels>{weights, weights, 0.5f};
        });
    });
}

}  // namespace
}  // namespace aimerge
