#pragma once
// `grid` of a sweep: lists of values. Every method is merged with all combinations of values of those parameters that it has.

#include "aimerge/config/yaml_document.h"
#include "aimerge/merge/method.h"

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {

/// Keys of `aim` that may differ between the methods of a sweep, and in its grid: how what has been measured holds the
/// change back, not on what it is measured.
inline const std::vector<std::string> kMethodAimKeys{"statistic", "source", "normalisation", "shape", "control", "scope"};

struct GridChoice {
    std::string text;  // as names, tables and --only have it: "0.2", "top:0.2"
    YamlNode value;    // as written
};

/// One list of values.
struct GridDimension {
    std::string key;        // "density", "weight_code", "aim_shape"
    std::string parameter;  // of merge methods, or a key of `aim`
    std::string expert;     // whose value it is; empty: that of all
    bool isAim = false;
    std::vector<GridChoice> choices;  // not empty, distinct
    SourceMark mark;

    std::string nameInFile() const;  // "grid.weight.code"
};

/// A method of the sweep, as far as the grid uses it.
struct GridMethod {
    std::string label;
    const MethodInfo* info = nullptr;
    const YamlNode* parameters = nullptr;  // of its own, null: none
    const YamlNode* aim = nullptr;
};

/// One value of each of some dimensions.
using GridSetting = std::vector<std::pair<const GridDimension*, const GridChoice*>>;

/// Letters, digits, '_', '.' and '-': what names of points are made of.
bool fitsFolderName(char c);

/// "0.2" of "0.20"; what is no number stays as it is.
std::string gridText(const std::string& written);

/// @throws UsageError: not lists of single values, a value twice, an expert that does not exist, a key of `aim` that has no
///         list
std::vector<GridDimension> readGrid(const YamlEntry& section, std::span<const std::string> experts);

/// Whether a method has the parameter, and no value of its own for it.
bool takes(const GridMethod& method, const GridDimension& dimension);

/// What is to be said about methods that do not take a value.
/// @throws UsageError when none takes it, with the nearest name
std::vector<std::string> checkGrid(std::span<const GridDimension> dimensions, std::span<const GridMethod> methods);

/// All combinations of values, the last dimension's fastest; one empty setting of no dimensions.
std::vector<GridSetting> settingsOf(std::span<const GridDimension* const> dimensions);

/// Their number.
double settingCount(std::span<const GridDimension* const> dimensions);

}  // namespace aimerge
