#include "merge/methods/task_vector_parameters.h"

namespace aimerge {

std::vector<ParameterSpec> taskVectorParameters(TaskVectorDefaults defaults, std::vector<ParameterSpec> own) {
    using enum ParameterType;
    using enum ParameterScope;
    std::vector<ParameterSpec> specs{
        {.name = "weight",
         .type = Number,
         .scope = PerNonBase,
         .fallback = {},
         .description = "factor of the expert's change"},
        {.name = "density",
         .type = Number,
         .scope = PerNonBase,
         .fallback = 1.0,
         .description = "share of the change that is kept"},
        {.name = "lambda", .type = Number, .scope = Shared, .fallback = 1.0, .description = "factor of the merged change"},
        {.name = "normalize",
         .type = Boolean,
         .scope = Shared,
         .fallback = defaults.normalize,
         .description = "divide by the sum of the weights"},
        {.name = "rescale",
         .type = Boolean,
         .scope = Shared,
         .fallback = defaults.rescale,
         .description = "restore the magnitude that trimming took, where density is below 1"},
        {.name = "int8_mask",
         .type = Boolean,
         .scope = Shared,
         .fallback = 0.0,
         .description = "accepted for mergekit's sake; no effect",
         .hasNoEffect = true},
    };
    specs[kDensity].minimum = 0;
    specs[kDensity].maximum = 1;
    specs.insert(specs.end(), own.begin(), own.end());
    return specs;
}

std::vector<std::size_t> trimmedInputs(const ResolvedParameters& values) {
    std::vector<std::size_t> trimmed;
    for (std::size_t i = 0; i < values.perInput[kDensity].size(); ++i)
        if (values.perInput[kDensity][i] < 1) trimmed.push_back(i);
    return trimmed;
}

ParameterSpec rescaleModeParameter() {
    return {.name = "rescale_mode",
            .type = ParameterType::Choice,
            .scope = ParameterScope::Shared,
            .fallback = 0.0,
            .description = "rescale to the change's L1 norm, or by the inverse of the keep probability",
            .choices = {"l1", "inverse_density"}};
}

}  // namespace aimerge
