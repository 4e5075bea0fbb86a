// The main of tests that run under mpirun: rank 0 prints the results, the other ranks only their failed assertions, each
// with its rank; the exit code tells of a failure on any rank. A test in which one rank leaves a collective early ends on
// the deadline instead of hanging.

#include "support/mpi_world.h"
#ifdef AIMERGE_TEST_ON_GPU
#include "support/test_device.h"
#endif

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

namespace aimerge {
namespace {

std::optional<World> world;

class FailuresOnly : public testing::EmptyTestEventListener {
public:
    explicit FailuresOnly(int rank) : rank_(rank) {}

    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (!result.failed()) return;
        const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
        fmt::print(stderr, "[rank {}] {}.{}\n[rank {}] {}:{}: {}\n", rank_, test ? test->test_suite_name() : "",
                   test ? test->name() : "", rank_, result.file_name() ? result.file_name() : "", result.line_number(),
                   result.message());
    }

private:
    int rank_;
};

#ifdef AIMERGE_TEST_ON_GPU
/// Ranks that share a GPU are hosts of their own to NCCL, which then takes its sockets.
void prepareNccl(const World& world) {
    constexpr const char* kLoopback = "lo";
    setenv("NCCL_HOSTID", fmt::format("rank {}", world.rank()).c_str(), 1);
    setenv("NCCL_SOCKET_IFNAME", kLoopback, 1);
}
#endif

}  // namespace

World& testWorld() {
    return *world;
}

}  // namespace aimerge

int main(int argc, char** argv) {
    setenv("AIMERGE_COLLECTIVE_TIMEOUT", "30", 0);
    aimerge::world.emplace(argc, argv);
#ifdef AIMERGE_TEST_ON_GPU
    if (!aimerge::hasTestGpu()) return aimerge::world->leave(aimerge::kSkipped);
    aimerge::prepareNccl(*aimerge::world);
#endif
    testing::InitGoogleTest(&argc, argv);
    if (!aimerge::world->isRoot()) {
        auto& listeners = testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new aimerge::FailuresOnly(aimerge::world->rank()));
    }
    return aimerge::world->leave(RUN_ALL_TESTS());
}
