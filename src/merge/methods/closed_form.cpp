#include "merge/methods/closed_form.h"

#include "merge/algebra/layer_system.h"
#include "merge/combine/walked_parameter.h"
#include "merge/methods/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace aimerge {
namespace {

enum ClosedFormParameter { kExpertWeight, kRidge, kAlphaOrLambda };

/// w_i / sum w
std::vector<double> sharesOf(const std::vector<double>& weights) {
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> shares;
    for (const double weight : weights) shares.push_back(weight / total);
    return shares;
}

template <typename Use>
void withScaled(bool scaled, const Use& use) {
    if (scaled) return use(std::integral_constant<Scaled, Scaled::Yes>{});
    return use(std::integral_constant<Scaled, Scaled::No>{});
}

class PreparedExpertMean : public WalkedParameter<PreparedExpertMean> {
public:
    PreparedExpertMean(const std::vector<double>& weights, std::optional<double> lambda)
        : shares_(floatsOf(sharesOf(weights))), isScaled_(lambda), lambda_(static_cast<float>(lambda.value_or(1))) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        withInputCount(tile.inputs.size(), [&](auto count) {
            withScaled(isScaled_, [&](auto scaled) {
                constexpr int kInputs = decltype(count)::value;
                const ExpertMeanCombine<kInputs, decltype(scaled)::value> kernel{
                    PerInput<float, kInputs>::from(shares_.data()), lambda_};
                forEachElement<kInputs>(kernel, tile);
            });
        });
    }

private:
    std::vector<float> shares_;
    bool isScaled_;
    float lambda_;
};

class PreparedCorrection : public PreparedParameter {
public:
    PreparedCorrection(std::vector<float> correction, std::optional<double> lambda)
        : correction_(std::move(correction)), isScaled_(lambda), lambda_(static_cast<float>(lambda.value_or(1))) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        const std::array<const float*, 2> from{inputs[0], correction_.data() + first};
        withScaled(isScaled_, [&](auto scaled) {
            forEachElement<2>(ClosedFormCombine<decltype(scaled)::value>{lambda_}, base, from, out);
        });
    }
#if AIMERGE_HAS_CUDA
    bool runsOnDevice() const override {
        return true;
    }
    void combineOnDevice(std::int64_t first, const DeviceTile& tile) const override {
        const std::span<float> made = tile.coefficients->make(tile.count);
        std::copy_n(correction_.begin() + first, made.size(), made.begin());
        const std::array<RawValues, 2> from{tile.inputs[0], RawValues{tile.coefficients->place(), Dtype::F32}};
        DeviceTile corrected = tile;
        corrected.inputs = from;
        withScaled(isScaled_,
                   [&](auto scaled) { forEachElement<2>(ClosedFormCombine<decltype(scaled)::value>{lambda_}, corrected); });
    }
#endif

    std::uint64_t heldBytes() const override {
        return correction_.size() * sizeof(float);
    }

private:
    std::vector<float> correction_;
    bool isScaled_;
    float lambda_;
};

/// What the three methods share: they differ in where C_i comes from.
class ClosedForm : public Method {
public:
    ClosedForm(MethodInfo info, ExpertMatrix matrix) : info_(std::move(info)), matrix_(matrix) {}

    const MethodInfo& info() const override { return info_; }

    std::optional<ParameterProblem> check(const ResolvedParameters& values) const override {
        const std::vector<double>& weights = values.perInput[kExpertWeight];
        if (std::ranges::any_of(weights, [](double weight) { return weight > 0; })) return std::nullopt;
        return ParameterProblem{kExpertWeight, std::nullopt,
                                fmt::format("all {} experts have weight 0; give one a weight above 0", weights.size())};
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::vector<double>& weights = values.perInput[kExpertWeight];
        const bool hasGram = matrix_ == ExpertMatrix::InputGram;
        std::optional<double> lambda;
        if (!hasGram) lambda = values.shared[kAlphaOrLambda];
        if (parameter.inputs() > 1 && isSolved(parameter)) {
            const LayerSystem system{matrix_, weights, sharesOf(weights), values.shared[kRidge],
                                     hasGram ? values.shared[kAlphaOrLambda] : 1};
            std::vector<float> correction = system.solve(parameter);
            if (!correction.empty()) return std::make_unique<PreparedCorrection>(std::move(correction), lambda);
        }
        return std::make_unique<PreparedExpertMean>(weights, lambda);
    }

    std::uint64_t workingBytes(Role role, const Shape& shape, const ResolvedParameters&) const override {
        return mayBeSolved(role, shape) ? LayerSystem::workingBytes(shape[0], shape[1]) : 0;
    }

private:
    /// A lm_head may have Gram matrices; without them it is treated as an embedding.
    bool mayBeSolved(Role role, const Shape& shape) const {
        const bool hasGram = matrix_ == ExpertMatrix::InputGram;
        const bool isLinear =
            role == Role::Linear || role == Role::Router || role == Role::Experts || (hasGram && role == Role::Head);
        return shape.size() == 2 && isLinear;
    }

    bool isSolved(const ParameterReader& parameter) const {
        const bool lacksGram = matrix_ == ExpertMatrix::InputGram && !parameter.gramOf(0);
        return mayBeSolved(parameter.role(), parameter.shape()) && !lacksGram;
    }

    MethodInfo info_;
    ExpertMatrix matrix_;
};

std::vector<ParameterSpec> closedFormParameters(double ridge, ParameterSpec third) {
    using enum ParameterType;
    using enum ParameterScope;
    return {{.name = "weight",
             .type = Number,
             .scope = PerNonBase,
             .fallback = 1.0,
             .description = "how much the expert counts",
             .minimum = 0},
            {.name = "ridge",
             .type = Number,
             .scope = Shared,
             .fallback = ridge,
             .description = "pull towards the mean, relative to the mean diagonal element of the summed matrices",
             .minimum = 0},
            std::move(third)};
}

std::vector<ParameterSpec> taskVectorClosedFormParameters() {
    // Beyond the rounding noise of float32, and of bfloat16 experts that changed few directions.
    constexpr double kRidgeOfTaskVectors = 1e-2;
    return closedFormParameters(kRidgeOfTaskVectors, {.name = "lambda",
                                                      .type = ParameterType::Number,
                                                      .scope = ParameterScope::Shared,
                                                      .fallback = 1.0,
                                                      .description = "factor of the merged change"});
}

}  // namespace

const Method& regMeanMethod() {
    // Alpha below 1 makes the sum definite but for channels that no token activates; the ridge is for those.
    constexpr double kRidgeOfGrams = 1e-6;
    static const ClosedForm method{
        {.name = "regmean",
         .description = "Linear layers whose outputs are nearest to the experts' on their own inputs",
         .paper = "Jin et al. 2023, Dataless Knowledge Fusion by Merging Weights of Language Models, arXiv 2212.09849",
         .base = BaseUse::Aside,
         .minInputs = 1,
         .parameters =
             closedFormParameters(kRidgeOfGrams, {.name = "alpha",
                                                  .type = ParameterType::Number,
                                                  .scope = ParameterScope::Shared,
                                                  .fallback = 0.9,
                                                  .description = "factor of the Gram matrices' off-diagonal elements",
                                                  .minimum = 0,
                                                  .maximum = 1}),
         .needs = ExpertStatistic::InputGram,
         .readsColumns = true},
        ExpertMatrix::InputGram};
    return method;
}

const Method& actMatMethod() {
    static const ClosedForm method{
        {.name = "actmat",
         .description = "RegMean without data: the experts' changes stand in for the covariance of their inputs",
         .paper = "Hameed et al. 2026, Model Merging via Data-Free Covariance Estimation, arXiv 2604.01329",
         .base = BaseUse::Required,
         .minInputs = 1,
         .parameters = taskVectorClosedFormParameters(),
         .readsColumns = true},
        ExpertMatrix::TaskVector};
    return method;
}

const Method& wudiMethod() {
    static const ClosedForm method{
        {.name = "wudi",
         .description = "Least interference between the experts' changes, each normalised, solved exactly",
         .paper = "Cheng et al. 2025, Whoever Started the Interference Should End It, arXiv 2503.08099",
         .base = BaseUse::Required,
         .minInputs = 1,
         .parameters = taskVectorClosedFormParameters(),
         .readsColumns = true},
        ExpertMatrix::NormalisedTaskVector};
    return method;
}

}  // namespace aimerge
