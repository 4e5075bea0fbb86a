#include "aimerge/merge/resolve_parameters.h"

#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

double valueFor(const ParameterSpec& spec, const MergeConfig& config, std::optional<std::size_t> model,
                const TensorPlace& tensor, const std::string& modelName) {
    std::optional<double> value;
    if (spec.type == ParameterType::Boolean) {
        if (const std::optional<bool> flag = lookUpBoolean(config, spec.name, model, tensor)) value = *flag;
    } else if (spec.type == ParameterType::Choice) {
        if (const Scalar* chosen = lookUpScalar(config, spec.name, model, tensor))
            value = static_cast<double>(std::ranges::find(spec.choices, chosen->text) - spec.choices.begin());
    } else {
        value = lookUpNumber(config, spec.name, model, tensor);
    }
    if (!value) value = spec.fallback;
    if (value) return *value;
    throw UsageError(
        "{}: the parameter '{}' has no value for model '{}' and tensor {}; give it in the model's parameters or in the "
        "global ones",
        config.file.string(), spec.name, modelName, tensor.name);
}

}  // namespace

std::vector<std::size_t> methodInputs(const MethodInfo& method, std::size_t models, std::optional<std::size_t> baseIndex) {
    std::vector<std::size_t> inputs;
    for (std::size_t model = 0; model < models; ++model)
        if (method.base == BaseUse::Ordinary || baseIndex != model) inputs.push_back(model);
    return inputs;
}

ResolvedParameters resolveParameters(const MethodInfo& method, const MergeConfig& config,
                                     std::span<const std::size_t> inputs, const TensorPlace& tensor) {
    ResolvedParameters resolved;
    resolved.seed = config.seed;
    resolved.shared.resize(method.parameters.size());
    resolved.perInput.resize(method.parameters.size());
    for (std::size_t i = 0; i < method.parameters.size(); ++i) {
        const ParameterSpec& spec = method.parameters[i];
        if (spec.scope == ParameterScope::Shared) {
            resolved.shared[i] = valueFor(spec, config, std::nullopt, tensor, "(all)");
            continue;
        }
        for (const std::size_t input : inputs) {
            const bool listed = input < config.models.size();
            resolved.perInput[i].push_back(valueFor(spec, config, listed ? std::optional(input) : std::nullopt, tensor,
                                                    listed ? config.models[input].model : config.baseModel));
        }
    }
    return resolved;
}

}  // namespace aimerge
