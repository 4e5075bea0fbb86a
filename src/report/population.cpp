#include "aimerge/core/error.h"
#include "aimerge/report/analysis.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace aimerge {
namespace {

constexpr std::array kPopulations{Population::Stated, Population::AsPrinted, Population::All};

std::size_t baseOf(const ScoreTable& table, const ScoreRow& merged) {
    if (const auto base = table.baseRow()) return *base;
    throw InputError("{}: line {}: the HV gain of '{}' needs the base, and no row has kind `base`", table.file.string(),
                     merged.line, merged.model);
}

std::size_t expertOf(const ScoreTable& table, const ScoreRow& merged, const std::string& name) {
    if (const auto expert = table.expertRow(name)) return *expert;
    throw InputError("{}: line {}: column `combination`: no row of kind `expert` is named '{}'", table.file.string(),
                     merged.line, name);
}

std::size_t expertWithRole(const ScoreTable& table, const ScoreRow& merged, std::string_view role) {
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        const ScoreRow& row = table.rows[i];
        if (row.kind == ModelKind::Expert && roleOf(row.experts.empty() ? row.model : row.experts.front()) == role) return i;
    }
    throw InputError("{}: line {}: population as-printed needs an expert whose name contains {}, for the HV gain of '{}'",
                     table.file.string(), merged.line, role == "instruct" ? "`instr`" : fmt::format("`{}`", role),
                     merged.model);
}

std::vector<std::size_t> statedPopulation(const ScoreTable& table, const ScoreRow& merged) {
    std::vector<std::size_t> members;
    if (merged.experts.size() > 2) members.push_back(baseOf(table, merged));
    for (const std::string& name : merged.experts) members.push_back(expertOf(table, merged, name));
    return members;
}

std::vector<std::size_t> printedPopulation(const ScoreTable& table, const ScoreRow& merged) {
    if (merged.experts.size() != 2) return statedPopulation(table, merged);
    std::array roles{roleOf(merged.experts[0]), roleOf(merged.experts[1])};
    std::sort(roles.begin(), roles.end());
    const auto with = [&](std::string_view role) { return expertWithRole(table, merged, role); };
    if (roles == std::array<std::string_view, 2>{"code", "instruct"}) return {with("code"), with("math")};
    if (roles == std::array<std::string_view, 2>{"instruct", "math"}) return {with("code"), with("instruct")};
    if (roles == std::array<std::string_view, 2>{"code", "math"}) return {with("code"), with("math")};
    throw InputError(
        "{}: line {}: column `combination`: population as-printed knows experts by `code`, `instr` and `math` in their "
        "names, found '{}'",
        table.file.string(), merged.line, combinationText(merged.experts));
}

std::vector<std::size_t> everyUnmergedModel(const ScoreTable& table, const ScoreRow& merged) {
    std::vector<std::size_t> members{baseOf(table, merged)};
    for (std::size_t i = 0; i < table.rows.size(); ++i)
        if (table.rows[i].kind == ModelKind::Expert) members.push_back(i);
    return members;
}

}  // namespace

std::string_view populationName(Population population) {
    switch (population) {
        case Population::Stated:
            return "stated";
        case Population::AsPrinted:
            return "as-printed";
        default:
            return "all";
    }
}

Population parsePopulation(std::string_view text) {
    for (const Population population : kPopulations)
        if (text == populationName(population)) return population;
    throw UsageError("--population '{}': expected stated, as-printed or all", text);
}

std::string_view roleOf(std::string_view expert) {
    std::string name(expert);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name.find("instr") != std::string::npos) return "instruct";
    if (name.find("math") != std::string::npos) return "math";
    if (name.find("code") != std::string::npos) return "code";
    return "";
}

std::vector<std::size_t> populationOf(const ScoreTable& table, const ScoreRow& merged, Population population) {
    switch (population) {
        case Population::Stated:
            return statedPopulation(table, merged);
        case Population::AsPrinted:
            return printedPopulation(table, merged);
        default:
            return everyUnmergedModel(table, merged);
    }
}

}  // namespace aimerge
