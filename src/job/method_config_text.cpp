#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/job/config_text.h"
#include "aimerge/merge/method.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

namespace aimerge {
namespace {

/// A parameter as an option gives it.
struct GivenParameter {
    const ParameterSpec* spec;
    std::string option;               // "--weight", "--param t"
    std::vector<std::string> values;  // one, or one for each model
    bool isPerModel() const { return values.size() > 1; }
};

std::vector<std::string> splitAtCommas(const std::string& text) {
    std::vector<std::string> parts{""};
    for (const char c : text) {
        if (c == ',')
            parts.emplace_back();
        else
            parts.back().push_back(c);
    }
    return parts;
}

/// A folder whose name has a comma is one model.
std::vector<std::string> modelNames(const std::vector<std::string>& arguments) {
    std::vector<std::string> names;
    for (const std::string& argument : arguments) {
        std::error_code ignored;
        const bool isFolder = std::filesystem::exists(argument, ignored);
        for (const std::string& name : isFolder ? std::vector{argument} : splitAtCommas(argument)) {
            if (name.empty()) throw UsageError("--models {}: a name is empty; write A,B,C without blanks", argument);
            names.push_back(name);
        }
    }
    if (names.empty()) throw UsageError("--models is missing: the models to merge, such as --models A,B,C");
    return names;
}

/// Numbers and words stand as they are; anything else in quotes, so that it stays one value, and a value.
std::string yamlValue(const std::string& text) {
    if (text == "null" || text == "Null" || text == "NULL") return quoted(text);
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
    return !text.empty() && text.find_first_not_of(kPlain) == std::string::npos ? text : quoted(text);
}

const ParameterSpec& specOf(const MethodInfo& method, const std::string& name, const std::string& option) {
    const auto spec = std::ranges::find(method.parameters, name, &ParameterSpec::name);
    if (spec != method.parameters.end()) return *spec;
    std::vector<std::string> names;
    for (const ParameterSpec& known : method.parameters) names.push_back(known.name);
    const std::string nearest = nearestName(name, names);
    throw UsageError("{}: the method {} has no parameter '{}'; it has {}{}", option, method.name, name,
                     names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

void requireCount(const GivenParameter& given, const MethodInfo& method, std::size_t models) {
    const std::size_t count = given.values.size();
    if (count <= 1) return;
    if (given.spec->scope == ParameterScope::Shared)
        throw UsageError(
            "{}: {} takes one '{}' for all models, found {}; values that change over the layers or from tensor to "
            "tensor are for a config file",
            given.option, method.name, given.spec->name, count);
    if (count != models)
        throw UsageError("{}: {} values for the {} models of --models; give one for all, or one for each", given.option,
                         count, models);
}

std::vector<GivenParameter> givenParameters(const MethodArguments& arguments, const MethodInfo& method, std::size_t models) {
    std::vector<GivenParameter> all;
    const auto add = [&](const std::string& name, const std::string& option, const std::vector<std::string>& values) {
        if (values.empty()) return;
        const ParameterSpec& spec = specOf(method, name, option);
        const auto earlier = std::ranges::find(all, &spec, &GivenParameter::spec);
        if (earlier != all.end()) throw UsageError("{}: '{}' is given by {} already", option, name, earlier->option);
        all.push_back({&spec, option, values});
        requireCount(all.back(), method, models);
    };
    add("weight", "--weight", arguments.weight);
    add("density", "--density", arguments.density);
    for (const std::string& argument : arguments.parameters) {
        const std::size_t equals = argument.find('=');
        if (equals == std::string::npos || equals == 0 || equals + 1 == argument.size())
            throw UsageError(
                "--param {}: expected NAME=VALUE, such as lambda=0.8, or NAME=VALUE,VALUE with one for each model",
                argument);
        const std::string name = argument.substr(0, equals);
        add(name, "--param " + name, splitAtCommas(argument.substr(equals + 1)));
    }
    return all;
}

void requireWhatTheMethodNeeds(const MethodInfo& method, const std::vector<GivenParameter>& given,
                               const std::vector<std::string>& overrides) {
    for (const ParameterSpec& spec : method.parameters) {
        const bool isOverridden = std::ranges::any_of(overrides, [&](const std::string& override) {
            return override.find("parameters." + spec.name) != std::string::npos;
        });
        if (spec.fallback || isOverridden || std::ranges::find(given, &spec, &GivenParameter::spec) != given.end()) continue;
        const bool isShared = spec.scope == ParameterScope::Shared;
        throw UsageError("{} is missing: {} needs '{}' ({}){}",
                         spec.name == "weight" ? "--weight" : fmt::format("--param {}=VALUE", spec.name), method.name,
                         spec.name, spec.description, isShared ? "" : "; one value for all models, or one for each");
    }
}

/// "{weight: 0.5, density: 1}"; empty for none. @param model -1: the global ones
std::string parametersText(const std::vector<GivenParameter>& parameters, int model) {
    std::vector<std::string> entries;
    for (const GivenParameter& given : parameters)
        if (given.isPerModel() == (model >= 0))
            entries.push_back(fmt::format("{}: {}", given.spec->name,
                                          yamlValue(given.values[static_cast<std::size_t>(std::max(model, 0))])));
    return entries.empty() ? "" : fmt::format("{{{}}}", fmt::join(entries, ", "));
}

/// What the experts are run on, without AIM.
std::string calibrationOfExperts(const MethodInfo& method, const AimArguments& aim) {
    if (!aim.preset.empty() || !aim.statistics.empty())
        throw UsageError("{} is about AIM: give --omega", aim.preset.empty() ? "--statistics" : "--preset");
    if (aim.corpus.empty() && !aim.textKeys.empty()) throw UsageError("--text-key is about the corpus: name it by --corpus");
    if (aim.corpus.empty()) return "";
    if (method.needs == ExpertStatistic::None)
        throw UsageError("--corpus: {} measures nothing; it is for AIM (--omega) and for methods that run the experts",
                         method.name);
    const std::string keys = aim.textKeys.empty() ? "" : fmt::format(", text_key: {}", quotedList(aim.textKeys));
    return fmt::format("calibration: {{corpus: {}{}}}\n", quoted(aim.corpus), keys);
}

}  // namespace

std::string methodConfigText(const MethodArguments& arguments, const AimArguments& aim,
                             const std::vector<std::string>& overrides) {
    const MethodInfo& method = findMethod(arguments.method, {.file = "--method"}).info();
    const std::vector<std::string> models = modelNames(arguments.models);
    const std::vector<GivenParameter> parameters = givenParameters(arguments, method, models.size());
    requireWhatTheMethodNeeds(method, parameters, overrides);
    if (arguments.base.empty() && (method.base == BaseUse::Required || !aim.omegas.empty()))
        throw UsageError("--base is missing: {} needs the model that the others were fine-tuned from",
                         method.base == BaseUse::Required ? method.name : "AIM");

    std::string text = fmt::format("merge_method: {}\n", method.name);
    if (!arguments.base.empty()) text += fmt::format("base_model: {}\n", quoted(arguments.base));
    text += "models:\n";
    for (std::size_t i = 0; i < models.size(); ++i) {
        text += fmt::format("  - model: {}\n", quoted(models[i]));
        const std::string own = parametersText(parameters, static_cast<int>(i));
        if (!own.empty()) text += fmt::format("    parameters: {}\n", own);
    }
    const std::string global = parametersText(parameters, -1);
    if (!global.empty()) text += fmt::format("parameters: {}\n", global);
    if (!arguments.dtype.empty()) text += fmt::format("dtype: {}\n", yamlValue(arguments.dtype));
    return text + (aim.omegas.empty() ? calibrationOfExperts(method, aim) : aimSection(aim));
}

}  // namespace aimerge
