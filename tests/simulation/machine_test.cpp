#include "aimerge/simulation/machine.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include "support/expect_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace aimerge {
namespace {

using testing::HasSubstr;

constexpr const char* kWithGpus = R"(
nodes: 2
gpus_per_node: 4
gpu: {tflops: 300, memory: 80 GB, memory_bandwidth: 3 TB/s}
cpu: {cores_per_node: 32, merge: 2 GB/s, digest: 4 GB/s}
link: {within_node: 200 GB/s, between_nodes: 25 GB/s, latency: 15 us}
storage: {read_per_node: 10 GB/s, write_per_node: 5 GB/s, read_total: 15 GB/s}
)";

TEST(Machine, IsReadFromYaml) {
    const Machine machine = parseMachine(kWithGpus, "cluster.yaml");

    EXPECT_EQ(machine.name, "cluster.yaml");
    EXPECT_EQ(machine.ranks(), 8);
    EXPECT_TRUE(machine.isGpu);
    EXPECT_EQ(machine.memoryBytes, 80'000'000'000u);
    EXPECT_EQ(machine.threadsPerRank, 8);
    EXPECT_EQ(machine.flopsPerSecond, 300e12);
    EXPECT_EQ(machine.weightBytesPerSecond, 3e12);
    EXPECT_EQ(machine.mergeBytesPerSecond, 16e9);
    EXPECT_EQ(machine.digestBytesPerSecond, 32e9);
    EXPECT_EQ(machine.messageBytesPerSecond, 200e9);
    EXPECT_EQ(machine.nodeBytesPerSecond, 25e9);
    EXPECT_DOUBLE_EQ(machine.latencySeconds, 15e-6);
    EXPECT_EQ(machine.nodeReadBytesPerSecond, 10e9);
    EXPECT_EQ(machine.nodeWriteBytesPerSecond, 5e9);
    EXPECT_EQ(machine.readBytesPerSecond, 15e9);
    EXPECT_EQ(machine.writeBytesPerSecond, Machine::kUnlimited);
}

TEST(Machine, MayHaveNoGpu) {
    const Machine machine = parseMachine(
        "ranks_per_node: 4\ncpu: {cores_per_node: 2, gflops: 30, merge: 2 GB/s}\nstorage: {read_per_node: 1 GB/s, "
        "write_per_node: 1 GB/s}\n",
        "laptop.yaml");

    EXPECT_FALSE(machine.isGpu);
    EXPECT_EQ(machine.nodes, 1);
    EXPECT_EQ(machine.threadsPerRank, 1);
    EXPECT_EQ(machine.flopsPerSecond, 15e9);  // four ranks on two cores have half of one each
    EXPECT_EQ(machine.mergeBytesPerSecond, 1e9);
}

TEST(Machine, MistakesAreNamed) {
    const auto changed = [](std::string from, std::string to) {
        std::string yaml = kWithGpus;
        yaml.replace(yaml.find(from), from.size(), to);
        return yaml;
    };
    const std::pair<std::string, std::string> kMistakes[] = {
        {changed("nodes: 2", "nods: 2"), "m.yaml:2:1: unknown key 'nods' at the top level; did you mean 'nodes'?"},
        {changed("memory_bandwidth", "bandwidth"), "unknown key 'bandwidth' in gpu"},
        {changed("latency", "latenzy"), "did you mean 'latency'?"},
        {changed("25 GB/s", "25 GB"), "link.between_nodes must be a rate such as 12 GB/s, found '25 GB'"},
        {changed("25 GB/s", "25 Gbit/s"), "link.between_nodes: '25 Gbit' is not a size"},
        {changed("15 us", "15"), "link.latency must be a time in us, ms or s, such as 10 us, found '15'"},
        {changed("tflops: 300", "tflops: 0"), "gpu.tflops must be a number above 0"},
        {changed("memory: 80 GB", "memory: 0GB"), "gpu.memory must be above 0"},
        {changed("merge: 2 GB/s, ", ""), "cpu.merge is missing"},
        {changed("read_per_node: 10 GB/s, ", ""), "storage.read_per_node is missing"},
        {changed("gpus_per_node: 4", ""), "give gpus_per_node, or ranks_per_node"},
        {changed("gpus_per_node: 4", "gpus_per_node: 4\nranks_per_node: 2"), "give gpus_per_node, or ranks_per_node"},
        {changed("gpus_per_node", "ranks_per_node"), "gpu describes GPUs"},
        {changed("nodes: 2", "nodes: 2000"), "at most 1024 ranks"},
        {"", "must be a mapping"},
        {"gpus_per_node: 4", "m.yaml: the section 'gpu' is missing"},
    };
    for (const auto& mistake : kMistakes)
        EXPECT_THAT(messageOf<UsageError>([&] { parseMachine(mistake.first, "m.yaml"); }), HasSubstr(mistake.second));
    EXPECT_THAT(messageOf<UsageError>([] { findMachine("nowhere.yaml"); }),
                HasSubstr("--hardware nowhere.yaml: no such file"));
}

TEST(Machine, ExamplesAreRight) {
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(std::string(AIMERGE_SOURCE_ROOT) + "/configs/hardware")) {
        EXPECT_NO_THROW(findMachine(entry.path().string())) << entry.path();
        ++files;
    }
    EXPECT_GE(files, 3);
}

TEST(Machine, TheOneWithANameIsThatOfItsFile) {
    const Machine file = findMachine(std::string(AIMERGE_SOURCE_ROOT) + "/configs/hardware/h100x4.yaml"),
                  known = findMachine("h100x4");

    EXPECT_EQ(file.ranks(), known.ranks());
    EXPECT_EQ(file.memoryBytes, known.memoryBytes);
    EXPECT_EQ(file.threadsPerRank, known.threadsPerRank);
    for (const auto rate : {&Machine::flopsPerSecond, &Machine::weightBytesPerSecond, &Machine::mergeBytesPerSecond,
                            &Machine::digestBytesPerSecond, &Machine::messageBytesPerSecond, &Machine::nodeBytesPerSecond,
                            &Machine::latencySeconds, &Machine::rankReadBytesPerSecond, &Machine::nodeReadBytesPerSecond,
                            &Machine::nodeWriteBytesPerSecond, &Machine::readBytesPerSecond, &Machine::writeBytesPerSecond})
        EXPECT_DOUBLE_EQ(file.*rate, known.*rate);
}

}  // namespace
}  // namespace aimerge
