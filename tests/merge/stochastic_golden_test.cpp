// The random methods against means and deviations over 1500 seeds of the reference implementation
// (tests/data/goldens/stochastic.safetensors; its cases stand in the manifest).

#include "merge/golden_tensors.h"
#include "merge/memory_parameter.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

constexpr std::size_t kSeeds = 400;

struct Case {
    Json json;
    std::string method;
    bool rescale;
};

std::vector<Case> allCases() {
    std::vector<Case> cases;
    const Json entry = goldenEntry("stochastic");
    for (const Json& json : entry.at("cases"))
        for (const bool rescale : {false, true}) cases.push_back({json, json.at("method"), rescale});
    return cases;
}

class StochasticGolden : public testing::TestWithParam<Case> {
protected:
    /// One merge per seed. @param experts how many of the two take part
    std::vector<Floats> merges(std::size_t experts, const std::vector<double>& weights) const {
        const auto& [json, name, rescale] = GetParam();
        const Method& method = findMethod(name, {});
        const std::string tensor = json.at("tensor");
        const auto tensors = goldenTensors("stochastic.safetensors");
        const GoldenTensor& base = tensors.at(tensor + "|base");
        std::vector<Floats> inputs;
        for (std::size_t i = 0; i < experts; ++i) inputs.push_back(tensors.at(fmt::format("{}|expert{}", tensor, i)).values);

        ResolvedParameters values = parameters(method, weights);
        setPerInput(method, values, "density", std::vector<double>(experts, json.at("density").get<double>()));
        if (!json.at("epsilon").is_null())
            setPerInput(method, values, "epsilon", std::vector<double>(experts, json.at("epsilon").get<double>()));
        setShared(method, values, "lambda", json.at("lambda").get<double>());
        setShared(method, values, "normalize", json.at("normalize").get<bool>());
        setShared(method, values, "rescale", rescale);
        std::vector<Floats> results;
        for (values.seed = 1; values.seed <= kSeeds; ++values.seed)
            results.push_back(combined(method, values, base.values, inputs, 1, base.shape));
        return results;
    }
};
INSTANTIATE_TEST_SUITE_P(, StochasticGolden, testing::ValuesIn(allCases()), [](const auto& test) {
    return fmt::format("{}_{}_{}", test.index, test.param.method, test.param.rescale ? "rescaled" : "plain");
});

TEST_P(StochasticGolden, HasTheReferencesMean) {
    const auto& [json, name, rescale] = GetParam();
    const std::string key =
        fmt::format("{}|{}|rescale={}|", json.at("tensor").get<std::string>(), name, rescale ? "true" : "false");
    const auto tensors = goldenTensors("stochastic.safetensors");
    ASSERT_TRUE(tensors.contains(key + "mean")) << key;
    const Floats &mean = tensors.at(key + "mean").values, &deviation = tensors.at(key + "std").values;

    std::vector<double> sums(mean.size());
    for (const Floats& merged : merges(2, json.at("weights").get<std::vector<double>>()))
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += merged[i];

    std::size_t violations = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const double allowed = 5 * deviation[i] * std::sqrt(1.0 / kSeeds + 1.0 / 1500) + 1e-6;
        violations += std::abs(sums[i] / kSeeds - mean[i]) > allowed;
    }
    EXPECT_LE(violations, sums.size() / 1000);
}

TEST_P(StochasticGolden, KeepsTheReferencesShare) {
    const Json& json = GetParam().json;
    const Json& single = json.at("single_expert0_weight1");
    const Floats base = goldenTensors("stochastic.safetensors").at(json.at("tensor").get<std::string>() + "|base").values;

    double kept = 0;
    for (const Floats& merged : merges(1, {1.0}))
        for (std::size_t i = 0; i < base.size(); ++i) kept += merged[i] != base[i];

    const double elements = single.at("nonzero_elements").get<double>();
    const double deviation = single.at("kept_fraction_std").get<double>();
    EXPECT_NEAR(kept / (elements * kSeeds), single.at("kept_fraction_mean").get<double>(),
                5 * deviation * std::sqrt(1.0 / kSeeds + 1.0 / 1500));
}

}  // namespace
}  // namespace aimerge
