#include "merge/methods/linear.h"

#include "merge/combine/walked_parameter.h"
#include "merge/methods/weights.h"

#include <fmt/format.h>

#include <numeric>

namespace aimerge {
namespace {

enum LinearParameter { kWeight, kNormalize };

class PreparedLinear : public WalkedParameter<PreparedLinear> {
public:
    explicit PreparedLinear(const ResolvedParameters& values)
        : weights_(floatsOf(values.perInput[kWeight])),
          normalize_(values.shared[kNormalize] != 0),
          divisor_(std::accumulate(weights_.begin(), weights_.end(), 0.0f)) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        withInputCount(tile.inputs.size(), [&](auto count) {
            withNormalize(normalize_, [&](auto normalize) {
                constexpr int kInputs = decltype(count)::value;
                const LinearCombine<kInputs, decltype(normalize)::value> kernel{
                    PerInput<float, kInputs>::from(weights_.data()), divisor_};
                forEachElement<kInputs>(kernel, tile);
            });
        });
    }

private:
    std::vector<float> weights_;
    bool normalize_;
    float divisor_;
};

class Linear : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "linear",
                                     .description = "Weighted mean of all models",
                                     .paper = "Wortsman et al. 2022, Model soups, arXiv 2203.05482",
                                     .base = BaseUse::Ordinary,
                                     .minInputs = 1,
                                     .parameters = {{.name = "weight",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::PerInput,
                                                     .fallback = {},
                                                     .description = "factor of the model"},
                                                    {.name = "normalize",
                                                     .type = ParameterType::Boolean,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 1.0,
                                                     .description = "divide by the sum of the weights"}}};
        return info;
    }

    std::optional<ParameterProblem> check(const ResolvedParameters& values) const override {
        if (values.shared[kNormalize] == 0 || !addUpToZero(values.perInput[kWeight])) return std::nullopt;
        return ParameterProblem{kWeight, 0,
                                fmt::format("the weights of the {} models add up to 0, by which nothing can be divided; "
                                            "change a weight or set normalize: false",
                                            values.perInput[kWeight].size())};
    }

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedLinear>(values);
    }
};

}  // namespace

const Method& linearMethod() {
    static const Linear method;
    return method;
}

}  // namespace aimerge
