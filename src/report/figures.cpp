#include "aimerge/report/figures.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/helper_process.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kPointsOfACurve = 3;

/// Rows of a group from ω = 0 to 1, those that say their ω.
std::vector<std::size_t> byOmega(const ScoreTable& scores, const MergeGroup& group) {
    std::vector<std::size_t> rows;
    for (const std::size_t row : group.withAim)
        if (scores.rows[row].omega) rows.push_back(row);
    if (group.plain) rows.push_back(*group.plain);
    return rows;
}

std::vector<std::string> methodNames(const std::vector<MergeGroup>& groups) {
    std::vector<std::string> methods;
    for (const MergeGroup& group : groups)
        if (std::find(methods.begin(), methods.end(), group.method) == methods.end()) methods.push_back(group.method);
    return methods;
}

/// {"title", "lines"} of the combination, made if it is not there yet.
ordered_json& panelFor(ordered_json& panels, const std::vector<std::string>& experts) {
    const std::string title = combinationText(experts);
    for (ordered_json& panel : panels)
        if (panel["title"] == title) return panel;
    return panels.emplace_back(ordered_json{{"title", title}, {"lines", ordered_json::array()}});
}

/// Without and with AIM, one line per method and combination.
std::optional<Figure> gainFigure(const ScoreTable& scores, const Analysis& analysis, const std::vector<MergeGroup>& groups) {
    ordered_json panels = ordered_json::array();
    for (const MergeGroup& group : groups) {
        const std::optional<std::size_t> with = shownWithAim(scores, group);
        if (!group.plain || !with || !analysis.rows[*group.plain].gain || !analysis.rows[*with].gain) continue;
        panelFor(panels, group.experts)["lines"].push_back({{"method", group.method},
                                                            {"without", *analysis.rows[*group.plain].gain},
                                                            {"with", *analysis.rows[*with].gain}});
    }
    if (panels.empty()) return std::nullopt;
    return Figure{"hv-gain",
                  "HV gain without and with AIM",
                  "Open: without AIM; filled: with AIM, at the \u03C9 of the table. Further right is better.",
                  {{"kind", "gain"}, {"methods", methodNames(groups)}, {"panels", panels}}};
}

/// Figure 3 of the paper.
std::optional<Figure> relativeGainFigure(const ScoreTable& scores, const Analysis& analysis,
                                         const std::vector<MergeGroup>& groups) {
    ordered_json panels = ordered_json::array();
    std::vector<std::string> fromZero;
    for (const MergeGroup& group : groups) {
        if (!group.plain || !analysis.rows[*group.plain].gain) continue;
        const double plain = *analysis.rows[*group.plain].gain;
        std::vector<double> x, y;
        for (const std::size_t row : byOmega(scores, group)) {
            if (!analysis.rows[row].gain) continue;
            x.push_back(1 - *scores.rows[row].omega);
            y.push_back((*analysis.rows[row].gain - plain) / plain * 100);
        }
        if (x.size() < kPointsOfACurve) continue;
        if (plain == 0) {
            fromZero.push_back(fmt::format("{} of {}", group.method, combinationText(group.experts)));
            continue;
        }
        panelFor(panels, group.experts)["lines"].push_back({{"method", group.method}, {"x", x}, {"y", y}});
    }
    if (panels.empty()) return std::nullopt;
    std::string caption = "Change of the HV gain against \u03C9 = 1, over 1 \u2212 \u03C9: 0 is the merge without AIM.";
    if (!fromZero.empty())
        caption += fmt::format(" Without a line, as the gain at \u03C9 = 1 is 0: {}.", fmt::join(fromZero, ", "));
    return Figure{"hv-gain-over-omega",
                  "HV gain relative to \u03C9 = 1",
                  caption,
                  {{"kind", "relative_gain"}, {"methods", methodNames(groups)}, {"panels", panels}}};
}

ordered_json benchmarkPanel(const ScoreTable& scores, const std::vector<MergeGroup>& groups, std::size_t benchmark,
                            const std::vector<std::string>& experts) {
    ordered_json lines = ordered_json::array(), references = ordered_json::array();
    for (const MergeGroup& group : groups) {
        if (!sameExperts(group.experts, experts)) continue;
        std::vector<double> x, y;
        for (const std::size_t row : byOmega(scores, group)) {
            if (!scores.rows[row].done() || !scores.rows[row].scores[benchmark]) continue;
            x.push_back(*scores.rows[row].omega);
            y.push_back(*scores.rows[row].scores[benchmark]);
        }
        if (x.size() >= kPointsOfACurve) lines.push_back({{"method", group.method}, {"x", x}, {"y", y}});
    }
    if (const auto base = scores.baseRow(); base && scores.rows[*base].done() && scores.rows[*base].scores[benchmark])
        references.push_back({{"name", "base"}, {"y", *scores.rows[*base].scores[benchmark]}});
    return {{"title", scores.benchmarks[benchmark].name},
            {"lower_is_better", scores.benchmarks[benchmark].lowerIsBetter},
            {"lines", lines},
            {"references", references}};
}

/// One figure per combination, one panel per benchmark.
std::vector<Figure> benchmarkFigures(const ScoreTable& scores, const std::vector<MergeGroup>& groups) {
    std::vector<std::vector<std::string>> combinations;
    for (const MergeGroup& group : groups) {
        const bool isNew = std::none_of(combinations.begin(), combinations.end(),
                                        [&group](const auto& experts) { return sameExperts(experts, group.experts); });
        if (isNew && byOmega(scores, group).size() >= kPointsOfACurve) combinations.push_back(group.experts);
    }
    std::vector<Figure> figures;
    for (const std::vector<std::string>& experts : combinations) {
        ordered_json panels = ordered_json::array();
        for (std::size_t b = 0; b < scores.benchmarks.size(); ++b) {
            ordered_json panel = benchmarkPanel(scores, groups, b, experts);
            if (!panel["lines"].empty()) panels.push_back(std::move(panel));
        }
        if (panels.empty()) continue;
        figures.push_back({fileName(fmt::format("benchmarks-over-omega-{}", fmt::join(experts, "-"))),
                           "Benchmarks over \u03C9: " + combinationText(experts),
                           "\u03C9 = 1 is the merge without AIM.",
                           {{"kind", "benchmarks"}, {"methods", methodNames(groups)}, {"panels", panels}}});
    }
    return figures;
}

Figure activityFigure(const ActivityMap& activity) {
    return {"activations",
            "Activation statistics",
            "Left: mean |x| over tokens and input channels. Right: mean of A = |x| / max |x| over the input channels, the "
            "share of the "
            "merged change that \u03C9 = 0 takes away. From " +
                activity.source + ".",
            {{"kind", "activations"},
             {"modules", activity.modules},
             {"layers", activity.layers},
             {"mean_abs", activity.meanAbs},
             {"mean_importance", activity.meanImportance}}};
}

}  // namespace

std::vector<Figure> figuresOf(const ScoreTable& scores, const Analysis& analysis,
                              const std::optional<ActivityMap>& activity) {
    const std::vector<MergeGroup> groups = mergeGroups(scores);
    std::vector<Figure> figures;
    if (auto figure = gainFigure(scores, analysis, groups)) figures.push_back(std::move(*figure));
    if (auto figure = relativeGainFigure(scores, analysis, groups)) figures.push_back(std::move(*figure));
    for (Figure& figure : benchmarkFigures(scores, groups)) figures.push_back(std::move(figure));
    if (activity) figures.push_back(activityFigure(*activity));
    return figures;
}

std::string drawFigures(const std::vector<Figure>& figures, const std::filesystem::path& folder) {
    ordered_json data = ordered_json::array();
    for (const Figure& figure : figures) {
        data.push_back({{"name", figure.name}, {"title", figure.title}, {"caption", figure.caption}});
        data.back().update(figure.data);
    }
    std::filesystem::create_directories(folder);
    const std::filesystem::path dataFile = folder / "data.json";
    writeTextFile(dataFile, data.dump(1) + "\n");
    if (figures.empty()) return "";
    try {
        std::vector<std::string> command = environment::pythonCommand();
        command.insert(command.end(),
                       {(environment::toolsDirectory() / "draw_report.py").string(), dataFile.string(), folder.string()});
        const std::string hint = environment::howToGetPackage("matplotlib");
        HelperProcess script(std::move(command), hint);
        const std::string reason = script.receive();
        return reason.empty() ? "" : reason + "; " + hint;
    } catch (const RuntimeFault& fault) {
        return fault.what();
    }
}

}  // namespace aimerge
