#pragma once
// A merge of random values for any method, with settings that are not the defaults.

#include "merge/memory_parameter.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

inline constexpr std::uint64_t kBaseStream = 1, kExpertStream = 2, kStatisticStream = 50;

/// A value for every parameter: the default, but for those that would leave a method without anything to do.
inline ResolvedParameters someParameters(const Method& method, std::size_t inputs) {
    const std::map<std::string, double> wanted{{"weight", 0.5}, {"density", 0.4}, {"gamma", 0.1},
                                               {"t", 0.3},      {"epsilon", 0.2}, {"lambda", 0.7}};
    ResolvedParameters values;
    for (const ParameterSpec& spec : method.info().parameters) {
        const bool isDrop =
            spec.name == "epsilon" && !method.info().isRandom;  // della's is a probability, others' are floors
        const auto chosen = isDrop ? wanted.end() : wanted.find(spec.name);
        const double value = chosen != wanted.end() ? chosen->second : spec.fallback.value();
        const bool isShared = spec.scope == ParameterScope::Shared;
        values.shared.push_back(isShared ? value : 0);
        values.perInput.emplace_back(isShared ? 0 : inputs, value);
    }
    return values;
}

inline std::size_t inputsOf(const MethodInfo& info) {
    return std::clamp<std::size_t>(3, info.minInputs, info.maxInputs);
}

/// A statistic of one input, as the method needs it: positive values, or a well-conditioned Gram matrix.
inline std::shared_ptr<const TensorSource> statisticOf(ExpertStatistic kind, const Shape& shape, std::uint64_t stream) {
    if (kind == ExpertStatistic::Fisher) {
        Floats values = normalValues(static_cast<std::size_t>(elementCount(shape)), stream, 1);
        for (float& value : values) value = value * value + 0.125f;
        return std::make_shared<MemorySource>("fisher", values);
    }
    const auto n = static_cast<std::size_t>(shape.back());
    const Floats factor = normalValues(n * n, stream, 0.25f);
    Floats gram(n * n);
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t c = 0; c < n; ++c) {
            float sum = r == c ? 1.0f : 0.0f;
            for (std::size_t k = 0; k < n; ++k) sum += factor[r * n + k] * factor[c * n + k];
            gram[r * n + c] = sum;
        }
    }
    return std::make_shared<MemorySource>("gram", gram);
}

struct MethodJob {
    const Method* method;
    Shape shape;
    Floats base;
    std::vector<Floats> inputs;

    MethodJob(const Method& method, Shape shape) : method(&method), shape(std::move(shape)) {
        const auto elements = static_cast<std::size_t>(elementCount(this->shape));
        base = normalValues(elements, kBaseStream, 0.05f);
        for (std::size_t i = 0; i < inputsOf(method.info()); ++i) {
            Floats expert = normalValues(elements, kExpertStream + i, 0.01f);
            for (std::size_t e = 0; e < elements; ++e) expert[e] += base[e];
            inputs.push_back(std::move(expert));
        }
    }

    TensorMerge merge(Dtype dtype = Dtype::F32) const {
        TensorMerge merge = tensorMerge(*method, someParameters(*method, inputs.size()), shape, base, inputs, dtype);
        const ExpertStatistic needs = method->info().needs;
        const bool hasGram = needs == ExpertStatistic::InputGram && shape.size() == 2;
        if (needs == ExpertStatistic::Fisher || hasGram)
            for (std::size_t i = 0; i < inputs.size(); ++i)
                merge.statistics.push_back(statisticOf(needs, shape, kStatisticStream + i));
        return merge;
    }
};

inline std::vector<std::string> allMethodNames() {
    std::vector<std::string> names;
    for (const Method* method : methods()) names.push_back(method->info().name);
    return names;
}

}  // namespace aimerge
