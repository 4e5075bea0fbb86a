#include "experiment/sweep_grid.h"

#include "aimerge/config/mapping_reader.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace aimerge {
namespace {

constexpr const char* kAim = "aim";

/// It becomes a part of a folder's name.
void requireNameable(const std::string& text, const YamlNode& value, const std::string& name) {
    const auto fits = [](char c) { return fitsFolderName(c) || c == '+' || c == ':'; };
    if (!text.empty() && std::ranges::all_of(text, fits)) return;
    throw UsageError("{}: {} has the value '{}'; a value of a grid is a number, or a word of letters, digits, _, -, . and :",
                     value.mark.text(), name, text);
}

void readChoices(GridDimension& dimension, const YamlNode& values) {
    const std::string name = dimension.nameInFile();
    const bool isList = values.kind == YamlNode::Kind::Sequence;
    if ((!isList && values.kind != YamlNode::Kind::Scalar) || (isList && values.items.empty()))
        throw UsageError("{}: {} must be a list of values, found {}", values.mark.text(), name,
                         isList ? "an empty list" : describe(values));
    for (const YamlNode& value : isList ? values.items : std::vector{values}) {
        const std::string text = gridText(scalarText(value, name, "a list of single values"));
        requireNameable(text, value, name);
        if (std::ranges::find(dimension.choices, text, &GridChoice::text) != dimension.choices.end())
            throw UsageError("{}: {} has the value {} twice", value.mark.text(), name, text);
        dimension.choices.push_back({text, value});
    }
}

GridDimension dimensionOf(const YamlEntry& entry, std::string parameter, std::string expert, bool isAim) {
    GridDimension dimension{.key = {},
                            .parameter = std::move(parameter),
                            .expert = std::move(expert),
                            .isAim = isAim,
                            .choices = {},
                            .mark = entry.mark};
    dimension.key = (isAim ? "aim_" : "") + dimension.parameter + (dimension.expert.empty() ? "" : "_" + dimension.expert);
    readChoices(dimension, entry.value);
    return dimension;
}

const ParameterSpec* specOf(const GridMethod& method, const std::string& parameter) {
    const auto spec = std::ranges::find(method.info->parameters, parameter, &ParameterSpec::name);
    return spec == method.info->parameters.end() || spec->hasNoEffect ? nullptr : &*spec;
}

bool has(const GridMethod& method, const GridDimension& dimension) {
    if (dimension.isAim) return true;
    const ParameterSpec* const spec = specOf(method, dimension.parameter);
    return spec && (dimension.expert.empty() || spec->scope != ParameterScope::Shared);
}

bool hasOwn(const GridMethod& method, const GridDimension& dimension) {
    const YamlNode* const own = dimension.isAim ? method.aim : method.parameters;
    return own && own->find(dimension.parameter);
}

[[noreturn]] void refuse(const GridDimension& dimension, std::span<const GridMethod> methods) {
    std::vector<std::string> names;
    bool isShared = false;
    for (const GridMethod& method : methods) {
        isShared = isShared || specOf(method, dimension.parameter);
        for (const ParameterSpec& spec : method.info->parameters)
            if (!spec.hasNoEffect && std::ranges::find(names, spec.name) == names.end()) names.push_back(spec.name);
    }
    const std::string place = dimension.mark.text();
    if (isShared)
        throw UsageError("{}: {}: '{}' is one value for all models; write a list of values without experts", place,
                         dimension.nameInFile(), dimension.parameter);
    const std::string nearest = nearestName(dimension.parameter, names);
    throw UsageError("{}: {}: no method of the sweep takes '{}'; {}", place, dimension.nameInFile(), dimension.parameter,
                     !nearest.empty() ? fmt::format("did you mean '{}'?", nearest)
                     : names.empty()  ? "they have no parameters"
                                      : fmt::format("they have {}", fmt::join(names, ", ")));
}

}  // namespace

std::string GridDimension::nameInFile() const {
    return fmt::format("grid.{}{}{}", isAim ? "aim." : "", parameter, expert.empty() ? "" : "." + expert);
}

bool fitsFolderName(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

std::string gridText(const std::string& written) {
    double number = 0;
    const char* const end = written.data() + written.size();
    const auto [stop, error] = std::from_chars(written.data(), end, number);
    const bool isNumber = error == std::errc{} && stop == end && std::isfinite(number);
    return isNumber ? fmt::format("{}", number + 0.0) : written;  // -0 is 0
}

std::vector<GridDimension> readGrid(const YamlEntry& section, std::span<const std::string> experts) {
    if (section.value.kind != YamlNode::Kind::Mapping || section.value.entries.empty())
        throw UsageError("{}: grid must be a mapping of parameters to lists of values, found {}", section.value.mark.text(),
                         describe(section.value));
    std::vector<GridDimension> dimensions;
    for (const YamlEntry& entry : section.value.entries) {
        if (entry.key == kAim) {
            const MappingReader checked(entry.value, "grid.aim", kMethodAimKeys);
            for (const YamlEntry& key : entry.value.entries) dimensions.push_back(dimensionOf(key, key.key, "", true));
        } else if (entry.value.kind == YamlNode::Kind::Mapping && !entry.value.entries.empty()) {
            const std::vector<std::string> known(experts.begin(), experts.end());
            const MappingReader checked(entry.value, "grid." + entry.key, known);
            for (const YamlEntry& expert : entry.value.entries)
                dimensions.push_back(dimensionOf(expert, entry.key, expert.key, false));
        } else {
            dimensions.push_back(dimensionOf(entry, entry.key, "", false));
        }
    }
    return dimensions;
}

bool takes(const GridMethod& method, const GridDimension& dimension) {
    return has(method, dimension) && !hasOwn(method, dimension);
}

std::vector<std::string> checkGrid(std::span<const GridDimension> dimensions, std::span<const GridMethod> methods) {
    std::vector<std::string> remarks;
    for (const GridDimension& dimension : dimensions) {
        std::vector<std::string> without, own;
        for (const GridMethod& method : methods) {
            if (!has(method, dimension))
                without.push_back(method.label);
            else if (hasOwn(method, dimension))
                own.push_back(method.label);
        }
        if (without.size() == methods.size()) refuse(dimension, methods);
        const std::string place = fmt::format("{}: {}", dimension.mark.text(), dimension.nameInFile());
        if (without.size() + own.size() == methods.size())
            throw UsageError("{} has no effect: {} {} a value of {} own", place, fmt::join(own, ", "),
                             own.size() == 1 ? "has" : "have", own.size() == 1 ? "its" : "their");
        if (!without.empty())
            remarks.push_back(fmt::format("{}: not of {}, which {} no such parameter", place, fmt::join(without, ", "),
                                          without.size() == 1 ? "has" : "have"));
        if (!own.empty())
            remarks.push_back(fmt::format("{}: not of {}, which {} a value of {} own", place, fmt::join(own, ", "),
                                          own.size() == 1 ? "has" : "have", own.size() == 1 ? "its" : "their"));
    }
    return remarks;
}

std::vector<GridSetting> settingsOf(std::span<const GridDimension* const> dimensions) {
    std::vector<GridSetting> settings{{}};
    for (const GridDimension* dimension : dimensions) {
        std::vector<GridSetting> longer;
        for (const GridSetting& setting : settings)
            for (const GridChoice& choice : dimension->choices) {
                longer.push_back(setting);
                longer.back().emplace_back(dimension, &choice);
            }
        settings = std::move(longer);
    }
    return settings;
}

double settingCount(std::span<const GridDimension* const> dimensions) {
    double count = 1;
    for (const GridDimension* dimension : dimensions) count *= static_cast<double>(dimension->choices.size());
    return count;
}

}  // namespace aimerge
