#include "aimerge/simulation/machine.h"

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/yaml_document.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

namespace aimerge {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

/// Bytes of a text such as "80 GB".
double sizeOf(const YamlEntry& entry, const std::string& name, std::string_view text) {
    try {
        const auto bytes = static_cast<double>(parseSize(text));
        if (bytes > 0) return bytes;
    } catch (const UsageError& error) {
        throw UsageError("{}: {}: {}", entry.value.mark.text(), name, error.what());
    }
    throw UsageError("{}: {} must be above 0", entry.value.mark.text(), name);
}

std::optional<double> size(const MappingReader& reader, std::string_view key) {
    const YamlEntry* entry = reader.find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string name = reader.nameOf(key);
    return sizeOf(*entry, name, scalarText(entry->value, name, "a size such as 80 GB"));
}

/// "12 GB/s".
std::optional<double> rate(const MappingReader& reader, std::string_view key) {
    const YamlEntry* entry = reader.find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string name = reader.nameOf(key);
    std::string_view text = scalarText(entry->value, name, "a rate such as 12 GB/s");
    constexpr std::string_view kPerSecond = "/s";
    if (!text.ends_with(kPerSecond))
        throw UsageError("{}: {} must be a rate such as 12 GB/s, found '{}'", entry->value.mark.text(), name, text);
    text.remove_suffix(kPerSecond.size());
    return sizeOf(*entry, name, text);
}

double needRate(const MappingReader& reader, std::string_view key, const YamlEntry& section) {
    const std::optional<double> given = rate(reader, key);
    if (!given) throw UsageError("{}: {} is missing: a rate such as 5 GB/s", section.mark.text(), reader.nameOf(key));
    return *given;
}

/// "10 us". @throws UsageError
std::optional<double> duration(const MappingReader& reader, std::string_view key) {
    const YamlEntry* entry = reader.find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string name = reader.nameOf(key);
    const std::string& text = scalarText(entry->value, name, "a time such as 10 us");
    constexpr std::array<std::pair<std::string_view, double>, 3> kUnits{{{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}}};
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (unit.starts_with(' ')) unit.remove_prefix(1);
    for (const auto& [known, seconds] : kUnits)
        if (error == std::errc{} && number >= 0 && unit == known) return number * seconds;
    throw UsageError("{}: {} must be a time in us, ms or s, such as 10 us, found '{}'", entry->value.mark.text(), name,
                     text);
}

double positiveNumber(const MappingReader& reader, std::string_view key, const YamlEntry& section) {
    const std::optional<double> given = reader.number(key, 0, kLargest);
    if (given && *given > 0) return *given;
    throw UsageError("{}: {} must be a number above 0", section.mark.text(), reader.nameOf(key));
}

const YamlEntry& needSection(const MappingReader& file, std::string_view key, const std::string& fileName) {
    if (const YamlEntry* section = file.find(key)) return *section;
    throw UsageError("{}: the section '{}' is missing; configs/hardware has examples", fileName, key);
}

void readRanks(const MappingReader& file, Machine& machine, const std::string& fileName) {
    const auto count = [&](std::string_view key) { return static_cast<int>(file.wholeNumber(key, 1).value_or(0)); };
    machine.nodes = std::max(1, count("nodes"));
    const int gpus = count("gpus_per_node"), ranks = count("ranks_per_node");
    if ((gpus == 0) == (ranks == 0))
        throw UsageError("{}: give gpus_per_node, or ranks_per_node of a machine without GPUs", fileName);
    machine.isGpu = gpus > 0;
    machine.ranksPerNode = std::max(gpus, ranks);
    constexpr int kMostRanks = 1024;  // simulated in a second
    if (static_cast<std::int64_t>(machine.nodes) * machine.ranksPerNode > kMostRanks)
        throw UsageError("{}: {} nodes of {} ranks; at most {} ranks can be simulated", fileName, machine.nodes,
                         machine.ranksPerNode, kMostRanks);
}

void readGpu(const YamlEntry& section, Machine& machine) {
    const MappingReader gpu(section.value, "gpu", {"tflops", "memory", "memory_bandwidth"});
    machine.flopsPerSecond = 1e12 * positiveNumber(gpu, "tflops", section);
    machine.memoryBytes = static_cast<std::uint64_t>(size(gpu, "memory").value_or(0));
    machine.weightBytesPerSecond = rate(gpu, "memory_bandwidth").value_or(Machine::kUnlimited);
}

void readCpu(const YamlEntry& section, Machine& machine) {
    const MappingReader cpu(section.value, "cpu", {"cores_per_node", "gflops", "merge", "digest"});
    const auto cores = static_cast<int>(cpu.wholeNumber("cores_per_node", 1).value_or(1));
    machine.threadsPerRank = std::max(1, cores / machine.ranksPerNode);
    const double ofNode =
        static_cast<double>(cores) / machine.ranksPerNode;  // cores of a rank; shared where there are fewer
    if (!machine.isGpu) machine.flopsPerSecond = 1e9 * positiveNumber(cpu, "gflops", section) * ofNode;
    machine.mergeBytesPerSecond = needRate(cpu, "merge", section) * ofNode;
    machine.digestBytesPerSecond = rate(cpu, "digest").value_or(machine.mergeBytesPerSecond / ofNode) * ofNode;
}

void readLink(const YamlEntry& section, Machine& machine) {
    const MappingReader link(section.value, "link", {"within_node", "between_nodes", "latency"});
    machine.messageBytesPerSecond = rate(link, "within_node").value_or(Machine::kUnlimited);
    machine.nodeBytesPerSecond = rate(link, "between_nodes").value_or(Machine::kUnlimited);
    machine.latencySeconds = duration(link, "latency").value_or(0);
}

void readStorage(const YamlEntry& section, Machine& machine) {
    const MappingReader storage(section.value, "storage",
                                {"read_per_node", "write_per_node", "read_total", "write_total", "read_per_rank"});
    machine.nodeReadBytesPerSecond = needRate(storage, "read_per_node", section);
    machine.nodeWriteBytesPerSecond = needRate(storage, "write_per_node", section);
    machine.readBytesPerSecond = rate(storage, "read_total").value_or(Machine::kUnlimited);
    machine.writeBytesPerSecond = rate(storage, "write_total").value_or(Machine::kUnlimited);
    machine.rankReadBytesPerSecond = rate(storage, "read_per_rank").value_or(Machine::kUnlimited);
}

}  // namespace

Machine h100x4() {
    Machine machine;
    machine.name = "h100x4";
    machine.ranksPerNode = 4;
    machine.isGpu = true;
    machine.memoryBytes = 80'000'000'000;
    machine.threadsPerRank = 16;
    machine.flopsPerSecond = 400e12;
    machine.weightBytesPerSecond = 3e12;
    machine.mergeBytesPerSecond = 16 * 0.5e9;
    machine.digestBytesPerSecond = 16 * 5e9;
    machine.messageBytesPerSecond = 300e9;
    machine.latencySeconds = 20e-6;
    machine.nodeReadBytesPerSecond = 12e9;
    machine.nodeWriteBytesPerSecond = 6e9;
    return machine;
}

Machine parseMachine(const std::string& yaml, const std::string& fileName) {
    const YamlNode root = parseYaml({yaml}, fileName);
    const MappingReader file(root, "", {"nodes", "gpus_per_node", "ranks_per_node", "gpu", "cpu", "link", "storage"});
    Machine machine;
    machine.name = fileName;
    readRanks(file, machine, fileName);
    if (machine.isGpu)
        readGpu(needSection(file, "gpu", fileName), machine);
    else if (const YamlEntry* gpu = file.find("gpu"))
        throw UsageError("{}: gpu describes GPUs, of which gpus_per_node says how many there are", gpu->mark.text());
    readCpu(needSection(file, "cpu", fileName), machine);
    if (const YamlEntry* link = file.find("link")) readLink(*link, machine);
    readStorage(needSection(file, "storage", fileName), machine);
    return machine;
}

Machine findMachine(const std::string& nameOrFile) {
    if (nameOrFile == h100x4().name) return h100x4();
    if (!std::filesystem::is_regular_file(nameOrFile))
        throw UsageError("--hardware {}: no such file; give h100x4, or a file such as those of configs/hardware",
                         nameOrFile);
    return parseMachine(readTextFile(nameOrFile), nameOrFile);
}

}  // namespace aimerge
