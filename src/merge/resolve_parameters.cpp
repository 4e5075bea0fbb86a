#include "aimerge/merge/resolve_parameters.h"

#include "aimerge/core/error.h"
#include "merge/methods/passthrough.h"

#include <algorithm>

namespace aimerge {
namespace {

/// The value that a place of the config gives, else the default.
std::optional<double> valueFor(const ParameterSpec& spec, const MergeConfig& config, std::optional<std::size_t> source,
                               const TensorPlace& tensor) {
    std::optional<double> value;
    if (spec.type == ParameterType::Boolean) {
        if (const std::optional<bool> flag = lookUpBoolean(config, spec.name, source, tensor)) value = *flag;
    } else if (spec.type == ParameterType::Choice) {
        if (const Scalar* chosen = lookUpScalar(config, spec.name, source, tensor))
            value = static_cast<double>(std::ranges::find(spec.choices, chosen->text) - spec.choices.begin());
    } else {
        value = lookUpNumber(config, spec.name, source, tensor);
    }
    return value ? value : spec.fallback;
}

double sharedValue(const MethodInfo& method, const ParameterSpec& spec, const MergeConfig& config,
                   const TensorPlace& tensor) {
    if (const std::optional<double> value = valueFor(spec, config, std::nullopt, tensor)) return *value;
    throw UsageError("{}: {} needs the parameter '{}', which has no value for tensor {}; give it under 'parameters'",
                     config.methodMark.text(), method.name, spec.name, tensor.name);
}

double inputValue(const ParameterSpec& spec, const MergeConfig& config, const InputPlace& input, const TensorPlace& tensor) {
    const Slice& slice = config.slices.at(tensor.slice);
    const bool isSource = input.input < slice.sources.size();
    const TensorPlace place{input.name, tensor.depth, tensor.slice};
    const auto value = valueFor(spec, config, isSource ? std::optional(input.input) : std::nullopt, place);
    if (value) return *value;
    const SourceMark& mark = isSource ? slice.sources[input.input].mark : config.methodMark;
    throw UsageError(
        "{}: the parameter '{}' has no value for model '{}' and tensor {}; give it in the model's parameters or in the "
        "global ones",
        mark.text(), spec.name, isSource ? slice.sources[input.input].model : config.baseOf(slice), input.name);
}

}  // namespace

std::vector<std::size_t> methodInputs(const MethodInfo& method, const ModelSlice& slice) {
    const bool basePartakes = method.base == BaseUse::Ordinary && slice.baseIsListed;
    std::vector<std::size_t> inputs;
    for (std::size_t input = 0; input < slice.inputs.size(); ++input)
        if (basePartakes || slice.baseInput != input) inputs.push_back(input);
    return inputs;
}

TensorMethod methodFor(const Method& method, const ModelSlice& slice, const MatchedTensor& matched) {
    TensorMethod chosen{&method, methodInputs(method.info(), slice)};
    std::erase_if(chosen.inputs, [&](std::size_t input) { return matched.inputs[input].tensor == nullptr; });
    if (chosen.inputs.size() < method.info().minInputs) chosen = {&passthroughMethod(), {slice.referenceInput()}};
    return chosen;
}

ResolvedParameters resolveParameters(const MethodInfo& method, const MergeConfig& config, std::span<const InputPlace> inputs,
                                     const TensorPlace& tensor) {
    ResolvedParameters resolved;
    resolved.seed = config.seed;
    resolved.shared.resize(method.parameters.size());
    resolved.perInput.resize(method.parameters.size());
    for (std::size_t i = 0; i < method.parameters.size(); ++i) {
        const ParameterSpec& spec = method.parameters[i];
        if (spec.scope == ParameterScope::Shared) {
            resolved.shared[i] = sharedValue(method, spec, config, tensor);
            continue;
        }
        for (const InputPlace& input : inputs) resolved.perInput[i].push_back(inputValue(spec, config, input, tensor));
    }
    return resolved;
}

}  // namespace aimerge
