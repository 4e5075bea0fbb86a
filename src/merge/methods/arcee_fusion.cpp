#include "merge/methods/arcee_fusion.h"

#include "aimerge/core/bfloat.h"
#include "merge/algebra/inner_products.h"
#include "merge/combine/exponential.h"
#include "merge/combine/for_each_element.h"
#include "merge/selection/derived_reader.h"
#include "merge/selection/lanes.h"
#include "merge/selection/selection.h"
#include "merge/sources/row_runs.h"

#include <algorithm>

namespace aimerge {
namespace {

constexpr double kFloor = 1e-8;  // added to every probability

/// to[i] = value(i). @return the sum of term(i, to[i])
template <typename Number, typename Value, typename Term>
double fillAndAddUp(std::vector<Number>& to, const Value& value, const Term& term) {
    Lanes lanes{};
    addToLanes(
        to.size(), 0,
        [value, term, into = to.data()](std::size_t i) AIMERGE_INLINE_BODY {
            const Number own = value(i);
            into[i] = own;
            return static_cast<double>(term(i, own));
        },
        lanes);
    return sumOf(lanes);
}

/// The bits of a float32 as a number that is the greater, the greater the float is, and back.
AIMERGE_INLINE_BODY inline std::int32_t orderOf(float value) {
    const auto bits = static_cast<std::int32_t>(bitsOfFloat(value));
    return bits ^ (bits >> 31 & 0x7FFFFFFF);
}
float floatOfOrder(std::int32_t order) {
    return floatOfBits(static_cast<std::uint32_t>(order ^ (order >> 31 & 0x7FFFFFFF)));
}

/// The largest of value(i), by their bits, because the compiler vectorises maxima of whole numbers alone. @pre count > 0
template <typename Value>
float largestOf(std::size_t count, const Value& value) {
    return floatOfOrder(vectorised([=]() AIMERGE_INLINE_BODY {
        std::int32_t largest = orderOf(value(0));
        for (std::size_t i = 1; i < count; ++i) {
            const std::int32_t own = orderOf(value(i));
            largest = own > largest ? own : largest;
        }
        return largest;
    }));
}

/// What one worker makes of a row.
class Row {
public:
    explicit Row(std::size_t columns)
        : base_(columns), input_(columns), weights_(columns), growths_(columns), q_(columns), p_(columns) {}

    /// A row that comes in parts. @return whether it is complete
    bool add(std::size_t column, std::size_t count, const float* base, const float* input) {
        std::copy_n(base, count, base_.data() + column);
        std::copy_n(input, count, input_.data() + column);
        return column + count == base_.size();
    }
    double divergence() { return divergence(base_.data(), input_.data()); }

    /// kappa.
    double divergence(const float* base, const float* input) {
        const std::size_t columns = base_.size();
        const float change =
            largestOf(columns, [=](std::size_t i) AIMERGE_INLINE_BODY { return std::abs(input[i] - base[i]); });
        if (change == 0) return 0;
        const float largest = largestOf(columns, [=](std::size_t i) AIMERGE_INLINE_BODY { return base[i]; });
        const float smallest = -largestOf(columns, [=](std::size_t i) AIMERGE_INLINE_BODY { return -base[i]; });
        return change <= kNearZero && largest - smallest <= 2 ? ofSmallChanges(base, input, (largest + smallest) / 2)
                                                              : ofAnyChanges(base, input, largest);
    }

private:
    /// With q = e^(base - middle) and d = e^(input - base) - 1, every p / q is (1 + d) / (1 + r), where r = sum q d / sum q,
    /// and a term Q h(P / Q - 1), h(u) = (1 + u) ln(1 + u) - u: float32 loses nothing to cancellation.
    double ofSmallChanges(const float* base, const float* input, float middle) {
        const double total = fillAndAddUp(
            weights_, [=](std::size_t i) AIMERGE_INLINE_BODY { return exponentialWithinOne(base[i] - middle); },
            [](std::size_t, float weight) AIMERGE_INLINE_BODY { return weight; });
        const double totalGrowth = fillAndAddUp(
            growths_, [=](std::size_t i) AIMERGE_INLINE_BODY { return exponentialMinusOneNearZero(input[i] - base[i]); },
            [weights = weights_.data()](std::size_t i, float growth) AIMERGE_INLINE_BODY { return weights[i] * growth; });

        const double mean = totalGrowth / total;
        const auto growthOfAll = static_cast<float>(mean), scale = static_cast<float>(1 / (1 + mean)),
                   floor = static_cast<float>(kFloor * total);
        Lanes lanes{};
        addToLanes(
            weights_.size(), 0,
            [=, weights = weights_.data(), growths = growths_.data()](std::size_t i) AIMERGE_INLINE_BODY {
                const float weight = weights[i], floored = weight + floor;
                const float u = (growths[i] - growthOfAll) * scale * (weight / floored);
                return static_cast<double>(floored * excessOfLogarithmNearOne(u));
            },
            lanes);
        return sumOf(lanes) / total;
    }

    double ofAnyChanges(const float* base, const float* input, double largest) {
        const auto exponentials = [largest](const float* from, std::vector<double>& to) {
            return fillAndAddUp(
                to, [=](std::size_t i) AIMERGE_INLINE_BODY { return exponential(from[i] - largest); },
                [](std::size_t, double value) AIMERGE_INLINE_BODY { return value; });
        };
        const double scaleQ = 1 / exponentials(base, q_), scaleP = 1 / exponentials(input, p_);
        Lanes lanes{};
        addToLanes(
            p_.size(), 0,
            [=, ps = p_.data(), qs = q_.data()](std::size_t i) AIMERGE_INLINE_BODY {
                const double p = ps[i] * scaleP + kFloor, q = qs[i] * scaleQ + kFloor;
                return p * logarithmOfRatio(p, q) - (p - q);
            },
            lanes);
        return sumOf(lanes);
    }

    std::vector<float> base_, input_;
    std::vector<float> weights_, growths_;
    std::vector<double> q_, p_;
};

/// kappa of every row, rounded to float32.
std::vector<float> divergencesOf(ParameterReader& parameter, MatrixShape matrix) {
    std::vector<float> divergences(static_cast<std::size_t>(matrix.rows));
    const auto columns = static_cast<std::size_t>(matrix.columns);
    std::vector<Row> rows(static_cast<std::size_t>(parameter.threads().threads()), Row(columns));
    const std::int64_t rowsPerBlock = std::max<std::int64_t>(1, ParameterReader::kSpanElements / matrix.columns);
    const std::int64_t blocks = (matrix.rows + rowsPerBlock - 1) / rowsPerBlock;
    const std::size_t only = 0;

    parameter.threads().forEach(static_cast<std::size_t>(blocks), [&](std::size_t block, int worker) {
        Row& values = rows[static_cast<std::size_t>(worker)];
        const std::int64_t begin = static_cast<std::int64_t>(block) * rowsPerBlock;
        const std::int64_t end = std::min(matrix.rows, begin + rowsPerBlock);
        parameter.visit(
            begin * matrix.columns, (end - begin) * matrix.columns, {&only, 1}, worker, [&](const ParameterChunk& chunk) {
                forEachRowRun(chunk.first, chunk.count, matrix.columns,
                              [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                                  const float *const base = chunk.base + offset, *const input = chunk.inputs[0] + offset;
                                  float& divergence = divergences[static_cast<std::size_t>(row)];
                                  if (count == columns)
                                      divergence = static_cast<float>(values.divergence(base, input));
                                  else if (values.add(static_cast<std::size_t>(column), count, base, input))
                                      divergence = static_cast<float>(values.divergence());
                              });
            });
    });
    return divergences;
}

/// h.
float thresholdOf(ParameterReader& parameter, MatrixShape matrix, const std::vector<float>& divergences) {
    DerivedReader importance(parameter, [&](const ParameterChunk& chunk, float* out) {
        forEachRowRun(chunk.first, chunk.count, matrix.columns,
                      [&](std::int64_t row, std::int64_t, std::size_t offset, std::size_t count) {
                          const float divergence = divergences[static_cast<std::size_t>(row)];
                          const float* const base = chunk.base + offset;
                          const float* const input = chunk.inputs[0] + offset;
                          float* const to = out + offset;
                          vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
                              for (std::size_t i = 0; i < count; ++i)
                                  to[i] = importanceOfChange(base[i], input[i], divergence);
                          });
                      });
    });
    const std::int64_t elements = parameter.elements();
    std::vector<SelectionRequest> requests;
    for (const float z : {0.25f, 0.5f, 0.75f}) {
        const auto place = static_cast<std::int64_t>(z * static_cast<float>(elements - 1));
        requests.push_back({0, elements - place});
    }
    // Three values of one input: in the memory that the executor allows for two.
    SelectionSettings settings;
    settings.collected /= 2;
    settings.mostSampled /= 2;
    const std::vector<MagnitudeCut> cuts = selectLargest(importance, requests, settings);
    const float q25 = floatOfBits(cuts[0].magnitude), q50 = floatOfBits(cuts[1].magnitude),
                q75 = floatOfBits(cuts[2].magnitude);
    return q50 + 1.5f * (q75 - q25);
}

class PreparedArceeFusion : public PreparedParameter {
public:
    PreparedArceeFusion(std::vector<float> divergences, float threshold, std::int64_t columns)
        : divergences_(std::move(divergences)), threshold_(threshold), columns_(columns) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        forEachRowRun(first, out.size(), columns_,
                      [&](std::int64_t row, std::int64_t, std::size_t offset, std::size_t count) {
                          const ArceeFusionCombine kernel{divergences_[static_cast<std::size_t>(row)], threshold_};
                          const float* const input = inputs[0] + offset;
                          forEachElement<1>(kernel, base + offset, {&input, 1}, out.subspan(offset, count));
                      });
    }

private:
    std::vector<float> divergences_;
    float threshold_;
    std::int64_t columns_;
};

class ArceeFusion : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "arcee_fusion",
                                     .description = "Takes over the other model's most important changes, whole",
                                     .paper = "Goddard et al. 2024, mergekit, arXiv 2403.13257",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .maxInputs = 1,
                                     .parameters = {}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters&) const override {
        const MatrixShape matrix = MatrixShape::of(parameter.shape(), Along::Rows);
        std::vector<float> divergences = divergencesOf(parameter, matrix);
        const float threshold = thresholdOf(parameter, matrix, divergences);
        return std::make_unique<PreparedArceeFusion>(std::move(divergences), threshold, matrix.columns);
    }
};

}  // namespace

const Method& arceeFusionMethod() {
    static const ArceeFusion method;
    return method;
}

}  // namespace aimerge
