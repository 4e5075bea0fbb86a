// The device's walk by hand-sized numbers.

#include "aimerge/merge/task_vectors.h"
#include "merge/walker.h"

#include <gmock/gmock.h>

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
        .out = {out.data(), Dtype::F32},
        .count = 6};

    HostWalker<4>::run(walk);

    EXPECT_THAT(out, ElementsAre(9, 7, 5, -2, -1, 0, 9, 5, 1, -2, 0, 2));
}

}  // namespace
}  // namespace aimerge
