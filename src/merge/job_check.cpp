#include "aimerge/merge/job_check.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

const ParameterSpec* findSpec(const MethodInfo& method, const std::string& name) {
    const auto found = std::ranges::find(method.parameters, name, &ParameterSpec::name);
    return found == method.parameters.end() ? nullptr : &*found;
}

[[noreturn]] void throwUnknown(const MethodInfo& method, const std::string& name, const SourceMark& mark) {
    std::vector<std::string> names;
    for (const ParameterSpec& spec : method.parameters) names.push_back(spec.name);
    const std::string nearest = nearestName(name, names);
    throw UsageError(
        "{}: the method {} has no parameter '{}'; {}", mark.text(), method.name, name,
        nearest.empty() ? fmt::format("it has {}", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", nearest));
}

std::string rangeText(const ParameterSpec& spec) {
    const bool hasMinimum = spec.minimum > std::numeric_limits<double>::lowest();
    const bool hasMaximum = spec.maximum < std::numeric_limits<double>::max();
    if (!hasMinimum && !hasMaximum) return spec.type == ParameterType::WholeNumber ? "a whole number" : "a finite number";
    const std::string least = fmt::format("{} {}", spec.minimumExcluded ? "above" : "at least", spec.minimum);
    const std::string most = fmt::format("{} {}", spec.maximumExcluded ? "below" : "at most", spec.maximum);
    if (!hasMaximum) return spec.type == ParameterType::WholeNumber ? "a whole number, " + least : least;
    return hasMinimum ? least + " and " + most : most;
}

/// Gradients interpolate, so what holds for every scalar holds for every tensor.
void checkScalar(const ParameterSpec& spec, const Scalar& scalar) {
    const ParameterSetting alone{{{"", {scalar}}}, scalar.mark, spec.name};
    if (spec.type == ParameterType::Boolean) {
        alone.boolean("", 0);
        return;
    }
    if (spec.type == ParameterType::Choice) {
        if (std::ranges::find(spec.choices, scalar.text) != spec.choices.end()) return;
        throw UsageError("{}: '{}' is '{}'; it must be one of {}", scalar.mark.text(), spec.name, scalar.text,
                         fmt::join(spec.choices, ", "));
    }
    const double value = alone.number("", 0).value();
    const bool tooSmall = spec.minimumExcluded ? value <= spec.minimum : value < spec.minimum;
    const bool tooLarge = spec.maximumExcluded ? value >= spec.maximum : value > spec.maximum;
    const bool notWhole = spec.type == ParameterType::WholeNumber && value != std::floor(value);
    if (std::isfinite(value) && !tooSmall && !tooLarge && !notWhole) return;
    throw UsageError("{}: '{}' is {}; it must be {}", scalar.mark.text(), spec.name, scalar.text, rangeText(spec));
}

void checkSettings(const MethodInfo& method, const ParameterMap& parameters) {
    for (const auto& [name, setting] : parameters) {
        const ParameterSpec* spec = findSpec(method, name);
        if (!spec) throwUnknown(method, name, setting.mark);
        for (const ConditionalValue& condition : setting.conditions)
            for (const Scalar& scalar : condition.values) checkScalar(*spec, scalar);
    }
}

void warnOfUnread(const MethodInfo& method, const std::string& base, const ModelEntry& entry) {
    const bool isApartBase = method.base != BaseUse::Ordinary && entry.model == base;
    for (const auto& [name, setting] : entry.parameters) {
        const bool isShared = findSpec(method, name)->scope == ParameterScope::Shared;
        if (isShared)
            spdlog::warn("{}: '{}' is one value for all models and has no effect here; write it under the global parameters",
                         setting.mark.text(), name);
        else if (isApartBase)
            spdlog::warn("{}: '{}' has no effect on the base model of {}", setting.mark.text(), name, method.name);
    }
}

/// What a message about a slice says of its place and of where its models stand.
std::string placeText(const MergeConfig& config, const Slice& slice) {
    return (slice.wholeModels ? config.methodMark : slice.mark).text();
}

void requireBase(const MethodInfo& method, const MergeConfig& config, const Slice& slice) {
    if (!config.baseOf(slice).empty()) return;
    const bool fileHasNone = config.baseModel.empty();
    if (method.base == BaseUse::Required && fileHasNone)
        throw UsageError("{}: {} needs base_model: the model that the others were fine-tuned from", placeText(config, slice),
                         method.name);
    if (config.aim && fileHasNone)
        throw UsageError("{}: aim needs a base_model, whose activations it is about", config.aim->mark.text());
    if (method.base == BaseUse::Required || config.aim)
        throw UsageError(
            "{}: this slice has no base: {} needs base_model {} among its sources, with the layers that are its base, or a "
            "base_model of the slice",
            placeText(config, slice), config.aim ? "aim" : method.name, config.baseModel);
}

void checkModels(const MethodInfo& method, const MergeConfig& config, const Slice& slice) {
    requireBase(method, config, slice);
    const std::string& base = config.baseOf(slice);
    const bool baseIsSource = slice.find(base) != nullptr;
    std::size_t inputs = slice.sources.size();
    if (method.base != BaseUse::Ordinary && baseIsSource) --inputs;
    if (method.base == BaseUse::Ordinary && slice.wholeModels && !base.empty() && !baseIsSource) ++inputs;
    if (inputs >= method.minInputs && inputs <= method.maxInputs) return;
    const bool tooFew = inputs < method.minInputs;
    const std::size_t wanted = tooFew ? method.minInputs : method.maxInputs;
    const bool baseIsApart = method.base != BaseUse::Ordinary && !base.empty();
    const bool baseIsAdded = method.base == BaseUse::Ordinary && slice.wholeModels && !base.empty() && !baseIsSource;
    throw UsageError(
        "{}: {} needs {} {} model{} {}{}, found {}{}", placeText(config, slice), method.name,
        method.minInputs == method.maxInputs ? "exactly" : (tooFew ? "at least" : "at most"), wanted, wanted == 1 ? "" : "s",
        slice.wholeModels ? "under 'models'" : "in each slice", baseIsApart ? " besides the base" : "", inputs,
        !tooFew && baseIsAdded ? ", the base_model with them; with 'slices' in the place of 'models' it is none of them"
                               : "");
}

}  // namespace

void checkMergeConfig(const Method& method, const MergeConfig& config) {
    for (const Slice& slice : config.slices) checkModels(method.info(), config, slice);
    checkMergeParameters(method, config);
}

void checkMergeParameters(const Method& method, const MergeConfig& config) {
    const MethodInfo& info = method.info();
    checkSettings(info, config.parameters);
    for (const auto& [module, parameters] : config.moduleParameters) checkSettings(info, parameters);
    for (const Slice& slice : config.slices) {
        checkSettings(info, slice.parameters);
        for (const ModelEntry& entry : slice.sources) {
            checkSettings(info, entry.parameters);
            warnOfUnread(info, config.baseOf(slice), entry);
        }
    }
}

}  // namespace aimerge
