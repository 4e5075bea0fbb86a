#include "aimerge/core/size_text.h"
#include "aimerge/distributed/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

// All but the last column are right-aligned.
using Row = std::array<std::string, 8>;

std::string layersText(const RankPlan& rank) {
    const std::int64_t layers = rank.endLayer - rank.firstLayer;
    if (layers == 0) return "-";
    return layers == 1 ? fmt::format("{}", rank.firstLayer) : fmt::format("{}-{}", rank.firstLayer, rank.endLayer - 1);
}

std::string remark(const RankPlan& rank) {
    if (rank.idle()) return "idle";
    std::string text;
    const auto append = [&](bool applies, const std::string& what) {
        if (applies) text += (text.empty() ? "" : ", ") + what;
    };
    append(rank.replica > 0, fmt::format("replica {}", rank.replica + 1));
    append(rank.embedding, "embedding");
    append(rank.head, "norm and head");
    append(rank.streamsLayers, "streams its layers");
    return text;
}

Row rowOf(std::size_t index, const RankPlan& rank) {
    return {fmt::format("{}", index),
            layersText(rank),
            fmt::format("{}", rank.tensors.size()),
            formatBytes(rank.bytesToRead),
            formatBytes(rank.bytesToWrite),
            formatBytes(rank.peakMemoryBytes),
            formatCount(rank.calibrationFlops),
            remark(rank)};
}

Row totalRow(const Plan& plan) {
    std::size_t tensors = 0;
    double flops = 0;
    std::int64_t layers = 0;
    for (const RankPlan& rank : plan.ranks) {
        tensors += rank.tensors.size();
        flops += rank.calibrationFlops;
        layers = std::max(layers, rank.endLayer);
    }
    return {"total",
            fmt::format("{}", layers),
            fmt::format("{}", tensors),
            formatBytes(plan.totalBytesToRead()),
            formatBytes(plan.totalBytesToWrite()),
            "",
            formatCount(flops),
            ""};
}

std::string aligned(const std::vector<Row>& rows) {
    std::array<std::size_t, std::tuple_size_v<Row>> widths{};
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string table;
    for (const Row& row : rows) {
        std::string line;
        for (std::size_t i = 0; i + 1 < row.size(); ++i) line += fmt::format("{:>{}}  ", row[i], widths[i]);
        line += row.back();
        line.erase(line.find_last_not_of(' ') + 1);
        table += line + "\n";
    }
    return table;
}

std::string diskLine(std::uint64_t bytesToWrite, std::uint64_t freeDiskBytes) {
    if (bytesToWrite <= freeDiskBytes) {
        return fmt::format("disk    {} to write, {} free\n", formatBytes(bytesToWrite), formatBytes(freeDiskBytes));
    }
    return fmt::format("disk    {} to write, only {} free: {} missing\n", formatBytes(bytesToWrite),
                       formatBytes(freeDiskBytes), formatBytes(bytesToWrite - freeDiskBytes));
}

std::string memoryLine(const Plan& plan, const PlanSettings& settings) {
    std::uint64_t peak = 0;
    for (const RankPlan& rank : plan.ranks) peak = std::max(peak, rank.peakMemoryBytes);
    const std::string limit = settings.memoryLimit > 0 ? "limit " + formatBytes(settings.memoryLimit) : "no limit given";
    return fmt::format("memory  {} at most on a rank, {}\n", formatBytes(peak), limit);
}

}  // namespace

std::string planTable(const Plan& plan, const PlanSettings& settings, std::uint64_t freeDiskBytes) {
    std::vector<Row> rows{{"rank", "layers", "tensors", "read", "write", "memory", "FLOPs", ""}};
    for (std::size_t r = 0; r < plan.ranks.size(); ++r) rows.push_back(rowOf(r, plan.ranks[r]));
    rows.push_back(totalRow(plan));
    std::string text = aligned(rows) + "\n";
    if (settings.merging) text += diskLine(plan.totalBytesToWrite(), freeDiskBytes);
    return text + memoryLine(plan, settings);
}

}  // namespace aimerge
