// The combines that choose element by element, in every walk. Thresholds are such that some of the elements of a WalkCase
// are on either side.

#include "merge/methods/arcee_fusion.h"
#include "merge/methods/nearswap.h"
#include "merge/methods/ram.h"
#include "merge/methods/sce.h"
#include "merge/strided_walk_cases.h"

namespace aimerge {
namespace {

TEST(ElementChoiceWalk, OfOneModelHasTheBitsOfTheCpuMerge) {
    for (const float t : {0.0f, 0.2f}) expectTheBitsOfTheCpu<1>("nearswap", [=](PerElement) { return NearswapCombine{t}; });
    expectTheBitsOfTheCpu<1>("arcee fusion", [](PerElement) { return ArceeFusionCombine{0.5f, 0.1f}; });
}

TEST(ElementChoiceWalk, OfRamHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) {
        constexpr int kInputs = decltype(inputs)::value;
        expectTheBitsOfTheCpu<kInputs>("ram", [](PerElement) { return RamCombine<kInputs>{someWeights<kInputs>(), 0.2f}; });
    });
}

template <int kInputs, Selected kSelected>
void expectSceToAgree() {
    expectTheBitsOfTheCpu<kInputs>("sce", [](PerElement) {
        return SceCombine<kInputs, kSelected>{someWeights<kInputs>(), bitsOfFloat(0.05f)};
    });
}

TEST(ElementChoiceWalk, OfSceHasTheBitsOfTheCpuMerge) {
    forEachInputCount([](auto inputs) {
        expectSceToAgree<decltype(inputs)::value, Selected::All>();
        expectSceToAgree<decltype(inputs)::value, Selected::ByVariance>();
    });
}

}  // namespace
}  // namespace aimerge
