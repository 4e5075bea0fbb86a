#include "aimerge/merge/job_check.h"

#include "aimerge/config/parameter_lookup.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

const ParameterSpec* findSpec(const MethodInfo& method, const std::string& name) {
    const auto found = std::ranges::find(method.parameters, name, &ParameterSpec::name);
    return found == method.parameters.end() ? nullptr : &*found;
}

std::vector<std::string> parameterNames(const MethodInfo& method) {
    std::vector<std::string> names;
    for (const ParameterSpec& spec : method.parameters) names.push_back(spec.name);
    return names;
}

/// @throws UsageError when it is a slip of one of the method's
UnreadKey unknownParameter(const MethodInfo& method, const std::string& name, const SourceMark& mark) {
    const bool isOfAnother =
        std::ranges::any_of(methods(), [&](const Method* other) { return findSpec(other->info(), name) != nullptr; });
    const std::vector<std::string> names = parameterNames(method);
    const std::string slip = misspeltName(name, names), nearest = nearestName(name, names);
    const bool isOverride = mark.line == 0;
    if ((!isOfAnother && !slip.empty()) || isOverride)
        throw UsageError(
            "{}: the method {} has no parameter '{}'; {}", mark.text(), method.name, name,
            slip.empty() ? fmt::format("it has {}", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", slip));
    std::string known = names.empty() ? "it has none" : fmt::format("it has {}", fmt::join(names, ", "));
    if (!isOfAnother && !nearest.empty()) known = fmt::format("the nearest of its own is '{}'", nearest);
    return {name,
            {},
            mark,
            {},
            fmt::format("the method {} has no parameter '{}', which is ignored; {}", method.name, name, known)};
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

void checkSettings(const MethodInfo& method, const ParameterMap& parameters, UnreadKeys& unread) {
    for (const auto& [name, setting] : parameters) {
        const ParameterSpec* spec = findSpec(method, name);
        if (!spec) {
            unread.push_back(unknownParameter(method, name, setting.mark));
            continue;
        }
        for (const ConditionalValue& condition : setting.conditions)
            for (const Scalar& scalar : condition.values) checkScalar(*spec, scalar);
    }
}

/// The one value that a setting gives every tensor; nullopt when it depends on the tensor.
std::optional<double> plainValue(const ParameterSpec& spec, const ParameterSetting& setting) {
    const bool isPlain =
        setting.conditions.size() == 1 && setting.conditions[0].filter.empty() && setting.conditions[0].values.size() == 1;
    if (!isPlain) return std::nullopt;
    if (spec.type == ParameterType::Boolean) return setting.boolean("", 0).value() ? 1 : 0;
    if (spec.type == ParameterType::Choice)
        return static_cast<double>(std::ranges::find(spec.choices, setting.scalar("", 0)->text) - spec.choices.begin());
    return setting.number("", 0);
}

/// A shared parameter among a model's own repeats what the slice has.
bool holdsAnyway(const ParameterSpec& spec, const ParameterSetting& written, const MergeConfig& config, std::size_t slice) {
    if (spec.hasNoEffect || written.conditions.empty()) return true;
    const ParameterSetting* const holds = findParameter(config, spec.name, std::nullopt, {.name = "", .slice = slice});
    const std::optional<double> value = holds ? plainValue(spec, *holds) : spec.fallback;
    return value && value == plainValue(spec, written);
}

/// Those of a model's own settings that have no effect where they stand.
void checkPlaces(const MethodInfo& method, const MergeConfig& config, std::size_t slice, const ModelEntry& entry,
                 UnreadKeys& unread) {
    const bool isApartBase = method.base != BaseUse::Ordinary && entry.model == config.baseOf(config.slices[slice]);
    for (const auto& [name, setting] : entry.parameters) {
        const ParameterSpec* const spec = findSpec(method, name);
        if (spec == nullptr) continue;
        if (spec->scope == ParameterScope::Shared) {
            std::string reason = fmt::format(
                "'{}' is one value for all models and has no effect here; write it under the global parameters", name);
            if (!holdsAnyway(*spec, setting, config, slice)) throw UsageError("{}: {}", setting.mark.text(), reason);
            unread.push_back({name, {}, setting.mark, {}, std::move(reason)});
        } else if (isApartBase) {
            unread.push_back(
                {name, {}, setting.mark, {}, fmt::format("'{}' has no effect on the base model of {}", name, method.name)});
        }
    }
}

/// @throws UsageError for one that is a parameter of the method, or a slip of it
void checkUnreadKeys(const MethodInfo& method, const UnreadKeys& keys) {
    for (const UnreadKey& key : keys) {
        const std::string parameter = misspeltName(key.key, parameterNames(method));
        const bool isOne = findSpec(method, key.key) != nullptr;
        if (isOne || !parameter.empty())
            throw UsageError("{}: '{}' is a parameter of {} and has no effect {}; write it under 'parameters'{}",
                             key.mark.text(), isOne ? key.key : parameter, method.name, key.place,
                             isOne ? "" : fmt::format(" (found '{}')", key.key));
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
    // The changes of no expert: the base as it is, for instance to bake an adapter in.
    const bool addsChanges =
        method.base == BaseUse::Required && method.minInputs == 1 && method.maxInputs == MethodInfo::kAnyNumberOfInputs;
    if (inputs == 0 && baseIsSource && addsChanges) return;
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

UnreadKeys checkMergeConfig(const Method& method, const MergeConfig& config) {
    for (const Slice& slice : config.slices) checkModels(method.info(), config, slice);
    return checkMergeParameters(method, config);
}

UnreadKeys checkMergeParameters(const Method& method, const MergeConfig& config) {
    const MethodInfo& info = method.info();
    checkUnreadKeys(info, config.unread);
    UnreadKeys unread = config.unread;
    checkSettings(info, config.parameters, unread);
    for (const auto& [module, parameters] : config.moduleParameters) checkSettings(info, parameters, unread);
    for (const Slice& slice : config.slices) {
        checkSettings(info, slice.parameters, unread);
        for (const ModelEntry& entry : slice.sources) checkSettings(info, entry.parameters, unread);
    }
    for (std::size_t slice = 0; slice < config.slices.size(); ++slice)
        for (const ModelEntry& entry : config.slices[slice].sources) checkPlaces(info, config, slice, entry, unread);
    return unread;
}

}  // namespace aimerge
