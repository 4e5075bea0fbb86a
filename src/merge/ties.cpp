#include "aimerge/merge/ties.h"

#include "aimerge/merge/selection.h"
#include "merge/for_each_element.h"
#include "merge/kept_magnitude.h"
#include "merge/task_vector_parameters.h"
#include "merge/weights.h"

#include <algorithm>

namespace aimerge {
namespace {

/// Floor of the product as float64 has it, as mergekit does: 0.29 * 100 gives 28.
std::int64_t keptElements(double density, std::int64_t elements) {
    return std::max(std::int64_t{1}, static_cast<std::int64_t>(density * static_cast<double>(elements)));
}

class PreparedTies : public PreparedParameter {
public:
    PreparedTies(const ResolvedParameters& values, std::vector<MagnitudeCut> cuts, std::vector<float> rescale)
        : cuts_(std::move(cuts)),
          weights_(floatsOf(values.perInput[kWeight])),
          rescale_(std::move(rescale)),
          normalize_(values.shared[kNormalize] != 0),
          lambda_(static_cast<float>(values.shared[kLambda])) {}

    /// A cut's rule changes at one index: between those of all inputs the kernel has constants only.
    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        std::vector<std::uint32_t> leastKept(cuts_.size());
        std::vector<const float*> from(inputs.begin(), inputs.end());
        for (std::size_t begin = 0; begin < out.size();) {
            const std::int64_t index = first + static_cast<std::int64_t>(begin);
            std::size_t end = out.size();
            for (std::size_t i = 0; i < cuts_.size(); ++i) {
                leastKept[i] = cuts_[i].leastKeptAt(index);
                from[i] = inputs[i] + begin;
                if (cuts_[i].equalEnd > index)
                    end = std::min(end, begin + static_cast<std::size_t>(cuts_[i].equalEnd - index));
            }
            combineUniform(leastKept, base + begin, from, out.subspan(begin, end - begin));
            begin = end;
        }
    }

private:
    void combineUniform(const std::vector<std::uint32_t>& leastKept, const float* base, std::span<const float* const> inputs,
                        std::span<float> out) const {
        withInputCount(inputs.size(), [&](auto count) {
            withNormalize(normalize_, [&](auto normalize) {
                constexpr int kInputs = decltype(count)::value;
                const TiesCombine<kInputs, decltype(normalize)::value> kernel{
                    PerInput<float, kInputs>::from(weights_.data()), PerInput<float, kInputs>::from(rescale_.data()),
                    PerInput<std::uint32_t, kInputs>::from(leastKept.data()), lambda_};
                forEachElement<kInputs>(kernel, base, inputs, out);
            });
        });
    }

    std::vector<MagnitudeCut> cuts_;
    std::vector<float> weights_, rescale_;
    bool normalize_;
    float lambda_;
};

class Ties : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{
            .name = "ties",
            .description = "Trims the experts' changes, elects a sign per element, averages what agrees with it",
            .paper = "Yadav et al. 2023, TIES-Merging, arXiv 2306.01708",
            .base = BaseUse::Required,
            .minInputs = 1,
            .parameters = taskVectorParameters({.normalize = true, .rescale = false})};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::int64_t elements = parameter.elements();
        std::vector<MagnitudeCut> cuts(parameter.inputs(), MagnitudeCut::keepAll(elements));
        std::vector<float> rescale(parameter.inputs(), 1.0f);

        std::vector<SelectionRequest> trimmed;
        for (std::size_t i = 0; i < parameter.inputs(); ++i) {
            const double density = values.perInput[kDensity][i];
            const std::int64_t keep = keptElements(density, elements);
            if (density < 1 && keep < elements) trimmed.push_back({i, keep});
        }
        if (!trimmed.empty()) {
            const std::vector<MagnitudeCut> found = selectLargest(parameter, trimmed);
            for (std::size_t i = 0; i < trimmed.size(); ++i) cuts[trimmed[i].input] = found[i];
            if (values.shared[kRescale] != 0) {
                const std::vector<double> factors = rescaleFactors(parameter, trimmed, found);
                for (std::size_t i = 0; i < trimmed.size(); ++i) rescale[trimmed[i].input] = static_cast<float>(factors[i]);
            }
        }
        return std::make_unique<PreparedTies>(values, std::move(cuts), std::move(rescale));
    }
};

}  // namespace

const Method& tiesMethod() {
    static const Ties method;
    return method;
}

}  // namespace aimerge
