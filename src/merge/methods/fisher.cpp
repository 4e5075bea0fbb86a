#include "merge/methods/fisher.h"

#include "merge/combine/walked_parameter.h"
#include "merge/methods/weights.h"

#include <fmt/format.h>

#include <numeric>

namespace aimerge {
namespace {

enum FisherParameter { kWeight, kEpsilon };

/// Far below what is measured, and such that its product with a difference of weights is still a normal float32.
constexpr double kDefaultEpsilon = 1e-30;

class PreparedFisher : public WalkedParameter<PreparedFisher> {
public:
    explicit PreparedFisher(const ResolvedParameters& values)
        : weights_(floatsOf(values.perInput[kWeight])), epsilon_(static_cast<float>(values.shared[kEpsilon])) {
        const std::vector<double>& weights = values.perInput[kWeight];
        const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
        for (const double weight : weights) shares_.push_back(static_cast<float>(weight / sum));
    }

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        withInputCount(weights_.size(), [&](auto count) {
            constexpr int kModels = decltype(count)::value;
            const FisherCombine<kModels> kernel{PerInput<float, kModels>::from(weights_.data()),
                                                PerInput<float, kModels>::from(shares_.data()), epsilon_};
            forEachElement<2 * kModels>(kernel, tile);
        });
    }

private:
    std::vector<float> weights_, shares_;
    float epsilon_;
};

class Fisher : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "fisher",
                                     .description = "Mean of the experts, every element weighted by its Fisher information",
                                     .paper = "Matena & Raffel 2022, Fisher-weighted averaging, arXiv 2111.09832",
                                     .base = BaseUse::Aside,
                                     .minInputs = 1,
                                     .parameters = {{.name = "weight",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::PerNonBase,
                                                     .fallback = 1.0,
                                                     .description = "factor of the expert's Fisher information",
                                                     .minimum = 0},
                                                    {.name = "epsilon",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = kDefaultEpsilon,
                                                     .description = "summed information up to which the plain mean is taken",
                                                     .minimum = 0}},
                                     .needs = ExpertStatistic::Fisher};
        return info;
    }

    std::optional<ParameterProblem> check(const ResolvedParameters& values) const override {
        if (!addUpToZero(values.perInput[kWeight])) return std::nullopt;
        return ParameterProblem{kWeight, 0, "the weights of all models are 0; change one"};
    }

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedFisher>(values);
    }
};

}  // namespace

const Method& fisherMethod() {
    static const Fisher method;
    return method;
}

}  // namespace aimerge
