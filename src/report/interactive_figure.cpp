#include "aimerge/report/interactive_figure.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/helper_process.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

constexpr const char* kNoOmega = "not given";  // of a merge with AIM whose ω is no number for all of it

std::string omegaName(const ScoreRow& row) {
    return row.omega ? fmt::format("{:g}", *row.omega) : kNoOmega;
}

/// HV gain, then the benchmarks; none of a model that is not scored.
std::vector<std::optional<double>> valuesOf(const ScoreTable& scores, const Analysis& analysis, std::size_t row) {
    std::vector<std::optional<double>> values{analysis.rows[row].gain};
    for (const std::optional<double>& score : scores.rows[row].scores)
        values.push_back(scores.rows[row].done() ? score : std::nullopt);
    return values;
}

void addValues(ordered_json& model, const std::string& name, const std::vector<std::optional<double>>& values) {
    for (std::size_t m = 0; m < values.size(); ++m)
        if (values[m]) model[fmt::format("{}{}", name, m)] = *values[m];
}

ordered_json modelOf(const ScoreTable& scores, const Analysis& analysis, std::size_t index, const std::string& combination) {
    const ScoreRow& row = scores.rows[index];
    ordered_json model{{"model", row.model}, {"kind", kindName(row.kind)}};
    if (row.kind == ModelKind::Expert) model["expert"] = row.experts.empty() ? row.model : row.experts.front();
    if (row.kind == ModelKind::Merged) {
        model.update({{"method", row.method}, {"combination", combination}, {"aim", row.aim}, {"omega", omegaName(row)}});
        if (row.omega) model["omega_value"] = *row.omega;
    }
    addValues(model, "v", valuesOf(scores, analysis, index));
    if (const auto plain = analysis.rows[index].plain; plain && row.aim) {
        model["plain"] = scores.rows[*plain].model;
        addValues(model, "plain", valuesOf(scores, analysis, *plain));
    }
    return model;
}

}  // namespace

ordered_json interactiveData(const ScoreTable& scores, const Analysis& analysis) {
    ordered_json measures = ordered_json::array({{{"name", "HV gain"}, {"lower_is_better", false}}});
    for (const Benchmark& benchmark : scores.benchmarks)
        measures.push_back({{"name", benchmark.name}, {"lower_is_better", benchmark.lowerIsBetter}});

    ordered_json methods = ordered_json::array(), combinations = ordered_json::array(), shown;
    const auto addNew = [](ordered_json& list, const std::string& name) {
        if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
    };
    for (const MergeGroup& group : mergeGroups(scores)) {
        addNew(methods, group.method);
        addNew(combinations, combinationText(group.experts));
        if (const auto row = shownWithAim(scores, group); row && shown.is_null()) shown = omegaName(scores.rows[*row]);
    }
    std::set<double> omegas;
    bool hasUnnamed = false;
    ordered_json models = ordered_json::array();
    const std::vector<std::string> combinationOf = combinationNames(scores);
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        const ScoreRow& row = scores.rows[i];
        if (!row.done()) continue;
        models.push_back(modelOf(scores, analysis, i, combinationOf[i]));
        if (row.kind != ModelKind::Merged || !row.aim) continue;
        if (row.omega) omegas.insert(*row.omega);
        hasUnnamed = hasUnnamed || !row.omega;
    }
    ordered_json names = ordered_json::array();
    for (const double omega : omegas) names.push_back(fmt::format("{:g}", omega));
    if (hasUnnamed) names.push_back(kNoOmega);
    const bool hasConfigs = std::ranges::any_of(scores.rows, [](const ScoreRow& row) { return !row.config.empty(); });
    return {{"measures", measures}, {"methods", methods},   {"combinations", combinations},
            {"omegas", names},      {"shown_omega", shown}, {"has_configs", hasConfigs},
            {"models", models}};
}

PagePart interactiveFigure(const ordered_json& data) {
    try {
        std::vector<std::string> command = environment::pythonCommand();
        command.push_back((environment::toolsDirectory() / "interactive_figure.py").string());
        const std::string hint = environment::howToGetPackage("vl-convert-python");
        HelperProcess script(std::move(command), hint);
        std::string answer = script.receive();  // that it is ready, or why not
        if (answer.starts_with('I')) answer = script.request(data.dump());
        const bool isMade = answer.starts_with('I');
        answer.erase(0, 1);
        return isMade ? PagePart{std::move(answer), ""} : PagePart{"", answer + "; " + hint};
    } catch (const RuntimeFault& fault) {
        return {"", fault.what()};
    }
}

}  // namespace aimerge
