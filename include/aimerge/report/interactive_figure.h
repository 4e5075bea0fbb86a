#pragma once
// The interactive figure of report.html. What it shows is computed here, as JSON; src/tools/interactive_figure.py makes the
// part of the page out of it, with Vega-Lite.

#include "aimerge/report/ablation.h"

#include <nlohmann/json.hpp>

#include <string>

namespace aimerge {

/// {"measures": HV gain and the benchmarks, "methods", "combinations", "omegas", "shown_omega", "has_configs", "models": one
/// per model that has scores, with its values v0, v1, ... of the measures and, with AIM, plain0, plain1, ... of the same
/// merge without}.
nlohmann::ordered_json interactiveData(const ScoreTable& scores, const Analysis& analysis);

/// A part of a page, or why there is none.
struct PagePart {
    std::string html, missing;
};

/// Local, blocking; starts Python.
PagePart interactiveFigure(const nlohmann::ordered_json& data);

}  // namespace aimerge
