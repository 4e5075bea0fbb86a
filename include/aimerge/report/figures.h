#pragma once
// The pictures of a report. What they show is computed here, as JSON; src/tools/draw_report.py draws it with matplotlib.

#include "aimerge/report/ablation.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// One value per layer and kind of module, for the heat map of activation statistics.
struct ActivityMap {
    std::string source;                        // the log, and what it was taken on
    std::vector<std::string> modules;          // columns: "q_proj", "down_proj", ...
    std::vector<int> layers;                   // rows
    std::vector<std::vector<double>> meanAbs;  // [layer][module] mean over channels of mean |x|; NaN where there is none
    std::vector<std::vector<double>> meanImportance;  // [layer][module] mean over channels of A
};

struct Figure {
    std::string name;  // of its files, NAME.svg and NAME.png
    std::string title, caption;
    nlohmann::ordered_json data;
};

/// The figures for which there is data.
std::vector<Figure> figuresOf(const ScoreTable& scores, const Analysis& analysis,
                              const std::optional<ActivityMap>& activity);

/// Writes FOLDER/data.json and draws every figure into FOLDER as SVG and PNG. Local, blocking.
/// @returns empty, or why nothing was drawn: no Python, no matplotlib, or what the script said
std::string drawFigures(const std::vector<Figure>& figures, const std::filesystem::path& folder);

}  // namespace aimerge
