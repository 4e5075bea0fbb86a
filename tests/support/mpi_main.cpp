// The main of tests that run under mpirun: rank 0 prints the results, the other ranks only their failed assertions, each
// with its rank; the exit code tells of a failure on any rank. A test in which one rank leaves a collective early ends on
// the deadline instead of hanging.

#include "support/mpi_world.h"

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

}  // namespace

World& testWorld() {
    return *world;
}

}  // namespace aimerge

int main(int argc, char** argv) {
    setenv("AIMERGE_COLLECTIVE_TIMEOUT", "30", 0);
    aimerge::world.emplace(argc, argv);
    testing::InitGoogleTest(&argc, argv);
    if (!aimerge::world->isRoot()) {
        auto& listeners = testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new aimerge::FailuresOnly(aimerge::world->rank()));
    }
    return aimerge::world->leave(RUN_ALL_TESTS());
}
