// The device's walk by hand-sized numbers.

#include "merge/combine/task_vectors.h"
#include "merge/walker.h"

#include <gmock/gmock.h>

#include <limits>

namespace aimerge {
namespace {

using testing::ElementsAre;

TEST(StridedWalk, CombinesRelaxesAndRoundsEachElementForEveryOmega) {
    const std::vector<float> base{1, 1, 1, 2, 2, 2}, input{9, 9, 9, -2, -2, -2};
    const std::vector<float> factors{1, 0.75f, 0.5f, 1, 0.5f, 0};  // two omegas, three channels
    std::vector<float> out(12);
    const StridedWalk<1, SumCombine<KeepAll, 1, Normalize::No>> walk{
        .combine = {{}, {1}, 1, 1},
        .base = {base.data(), Dtype::F32},
        .inputs = {{{input.data(), Dtype::F32}}},
        .relaxation = {.points = 2, .channels = 3, .firstChannel = 0, .factors = factors.data()},
        .relaxedFrom = {base.data(), Dtype::F32},
        .out = {out.data(), Dtype::F32},
        .pointStride = 6,
        .count = 6};

    HostWalker<4>::run(walk);

    EXPECT_THAT(out, ElementsAre(9, 7, 5, -2, -1, 0, 9, 5, 1, -2, 0, 2));
}

TEST(StridedWalk, TellsOfValuesThatAreNotFinite) {
    const float infinity = std::numeric_limits<float>::infinity(), beyondF16 = 70000;
    const auto isReported = [](float base, float input) {
        std::uint16_t out = 0;
        std::uint32_t notFinite = 0;
        const StridedWalk<1, SumCombine<KeepAll, 1, Normalize::No>> walk{.combine = {{}, {1}, 1, 1},
                                                                         .base = {&base, Dtype::F32},
                                                                         .inputs = {{{&input, Dtype::F32}}},
                                                                         .relaxation = {},
                                                                         .relaxedFrom = {},
                                                                         .out = {&out, Dtype::F16},
                                                                         .pointStride = 1,
                                                                         .count = 1,
                                                                         .notFinite = &notFinite};
        HostWalker<1>::run(walk);
        return notFinite != 0;
    };

    EXPECT_FALSE(isReported(1, 2));
    EXPECT_TRUE(isReported(1, infinity));
    EXPECT_TRUE(isReported(std::numeric_limits<float>::quiet_NaN(), 1));
    EXPECT_TRUE(isReported(1, beyondF16));
}

}  // namespace
}  // namespace aimerge
