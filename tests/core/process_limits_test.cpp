#include "aimerge/core/process_limits.h"
#include "aimerge/core/file.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <limits>

namespace aimerge {
namespace {

using testing::DoubleNear;
using testing::Eq;
using testing::Optional;

TEST(UsableProcessors, AreThoseOfTheAffinityMask) {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    const std::vector<int> all = usableProcessors();
    ASSERT_EQ(all.size(), static_cast<std::size_t>(CPU_COUNT(&before)));

    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(all.back(), &last);
    ASSERT_EQ(sched_setaffinity(0, sizeof last, &last), 0);
    EXPECT_THAT(usableProcessors(), testing::ElementsAre(all.back()));
    ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

class ControlGroupsTest : public testing::Test {
protected:
    void write(const std::string& file, const std::string& text) {
        const std::filesystem::path path = temp_.path() / file;
        std::filesystem::create_directories(path.parent_path());
        writeTextFile(path, text);
    }
    ControlGroups groups() const { return ControlGroups(temp_.path()); }

private:
    const TempFolder temp_;
};

TEST_F(ControlGroupsTest, LimitNothingWhereThereAreNone) {
    EXPECT_EQ(groups().processors(), std::nullopt);
    EXPECT_EQ(groups().freeMemory(), std::nullopt);
}

TEST_F(ControlGroupsTest, OfVersion2CountWithThoseAbove) {
    write("proc/self/cgroup", "0::/job_7/step_0\n");
    write("sys/fs/cgroup/job_7/step_0/cpu.max", "max 100000\n");
    write("sys/fs/cgroup/job_7/cpu.max", "250000 100000\n");
    write("sys/fs/cgroup/job_7/step_0/memory.max", "max\n");
    write("sys/fs/cgroup/job_7/memory.max", "1000000\n");
    write("sys/fs/cgroup/job_7/memory.current", "700000\n");
    write("sys/fs/cgroup/job_7/memory.stat", "anon 300000\ninactive_file 150000\nactive_file 250000\n");

    EXPECT_THAT(groups().processors(), Optional(DoubleNear(2.5, 1e-12)));
    EXPECT_THAT(groups().freeMemory(), Optional(Eq(450000U)));

    write("sys/fs/cgroup/job_7/step_0/cpu.max", "100000 100000\n");
    EXPECT_THAT(groups().processors(), Optional(DoubleNear(1, 1e-12)));
}

TEST_F(ControlGroupsTest, OfVersion1HaveAHierarchyEach) {
    write("proc/self/cgroup", "5:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/elsewhere\n");
    // As in a container without a cgroup namespace: the path is the host's, and the mount begins at the group.
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "700000\n");

    EXPECT_THAT(groups().processors(), Optional(DoubleNear(4, 1e-12)));
    EXPECT_EQ(groups().freeMemory(), std::nullopt);

    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n");
    EXPECT_THAT(groups().freeMemory(), Optional(Eq(500000U)));
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    EXPECT_EQ(groups().processors(), std::nullopt);
}

TEST_F(ControlGroupsTest, ThatAreFullLeaveNothing) {
    write("proc/self/cgroup", "0::/\n");
    write("sys/fs/cgroup/memory.max", "1000\n");
    write("sys/fs/cgroup/memory.current", "1200\n");

    EXPECT_THAT(groups().freeMemory(), Optional(Eq(0U)));
}

TEST(AvailableMemory, IsSomeOfTheMachines) {
    EXPECT_GT(availableMemory(), 0U);
    EXPECT_LT(availableMemory(), std::uint64_t{1} << 50);
}

}  // namespace
}  // namespace aimerge
