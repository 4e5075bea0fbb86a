#include "merge/weighted_changes.h"

#include "aimerge/merge/weighted_changes.h"
#include "merge/for_each_element.h"
#include "merge/row_runs.h"

#include <numeric>

namespace aimerge {

Coefficients Coefficients::ofSum(std::vector<double> perInput) {
    const double sum = std::accumulate(perInput.begin(), perInput.end(), 0.0);
    return {std::move(perInput), sum - 1};
}

WeightedChanges::WeightedChanges(Reference reference, Along along, MatrixShape matrix, std::size_t inputs)
    : reference_(reference), along_(along), matrix_(matrix), inputs_(inputs) {
    coefficients_.resize(positions() * inputs_);
    excess_.resize(positions());
}

std::size_t WeightedChanges::positions() const {
    if (along_ == Along::Tensor) return 1;
    return static_cast<std::size_t>(along_ == Along::Rows ? matrix_.rows : matrix_.columns);
}

void WeightedChanges::set(std::size_t position, const Coefficients& coefficients) {
    for (std::size_t i = 0; i < inputs_; ++i) {
        const std::size_t place = along_ == Along::Columns ? i * positions() + position : position * inputs_ + i;
        coefficients_[place] = static_cast<float>(coefficients.perInput[i]);
    }
    excess_[position] = static_cast<float>(coefficients.excess);
}

class PreparedWeightedChanges : public PreparedParameter {
public:
    explicit PreparedWeightedChanges(WeightedChanges changes) : changes_(std::move(changes)) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        const float* const reference = changes_.reference_ == Reference::Base ? base : inputs[0];
        if (changes_.along_ == Along::Tensor) return combineUniform(0, reference, inputs, out);
        std::vector<const float*> from(inputs.size());
        forEachRowRun(first, out.size(), changes_.matrix_.columns,
                      [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                          for (std::size_t i = 0; i < from.size(); ++i) from[i] = inputs[i] + offset;
                          const std::span<float> to = out.subspan(offset, count);
                          if (changes_.along_ == Along::Rows)
                              combineUniform(static_cast<std::size_t>(row), reference + offset, from, to);
                          else
                              combineByColumn(static_cast<std::size_t>(column), reference + offset, from, to);
                      });
    }

private:
    void combineUniform(std::size_t position, const float* reference, std::span<const float* const> inputs,
                        std::span<float> out) const {
        withInputCount(inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            const float* const coefficients = changes_.coefficients_.data() + position * changes_.inputs_;
            forEachElement<kInputs>(
                WeightedChangesCombine<kInputs>{PerInput<float, kInputs>::from(coefficients), changes_.excess_[position]},
                reference, inputs, out);
        });
    }

    void combineByColumn(std::size_t column, const float* reference, std::span<const float* const> inputs,
                         std::span<float> out) const {
        std::vector<const float*> coefficients(inputs.size());
        for (std::size_t i = 0; i < inputs.size(); ++i)
            coefficients[i] = changes_.coefficients_.data() + i * changes_.positions() + column;
        withInputCount(inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(
                ColumnWeightedChangesCombine<kInputs>{PerInput<const float*, kInputs>::from(coefficients.data()),
                                                      changes_.excess_.data() + column},
                reference, inputs, out);
        });
    }

    WeightedChanges changes_;
};

std::unique_ptr<PreparedParameter> WeightedChanges::prepared() && {
    return std::make_unique<PreparedWeightedChanges>(std::move(*this));
}

}  // namespace aimerge
