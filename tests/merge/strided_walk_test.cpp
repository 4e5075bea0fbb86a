// The device's walk, run by the host: everything of it but the device.

#include "merge/strided_walk_cases.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

/// Plays the threads of a grid one after the other.
template <std::size_t kThreads>
struct HostWalker {
    using Memory = Bytes;

    template <typename Walk>
    static void run(const Walk& walk) {
        for (std::size_t thread = 0; thread < kThreads; ++thread) walk(thread, kThreads);
    }

    static void fetch(const Memory& memory, std::span<std::byte> out) { std::ranges::copy(memory, out.begin()); }
};

TEST(StridedWalk, CombinesRelaxesAndRoundsEachElementForEveryOmega) {
    const Floats base{1, 1, 1, 2, 2, 2}, input{9, 9, 9, -2, -2, -2};
    const Floats factors{1, 0.75f, 0.5f, 1, 0.5f, 0};  // two omegas, three channels
    Floats out(12);
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

TEST(StridedWalk, OfManyThreadsHasTheBitsOfTheCpuMerge) {
    expectEveryMethodToAgree<HostWalker<509>>();
}

}  // namespace
}  // namespace aimerge
