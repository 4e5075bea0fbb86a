#include "merge/combine/weighted_changes.h"

#include "merge/combine/walked_parameter.h"
#include "merge/combine/weighted_combine.h"
#include "merge/sources/row_runs.h"

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
        const HostTile tile{changes_.reference_ == Reference::Base ? base : inputs[0], inputs, out};
        if (changes_.along_ == Along::Tensor) return walk(0, tile);
        forEachRowRun(first, out.size(), changes_.matrix_.columns,
                      [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                          withPart(tile, offset, count, [&](const HostTile& part) {
                              if (changes_.along_ == Along::Rows)
                                  walk(static_cast<std::size_t>(row), part);
                              else
                                  walkColumns(static_cast<std::size_t>(column), part);
                          });
                      });
    }
#if AIMERGE_HAS_CUDA
    /// A kernel for each row would be too small.
    bool runsOnDevice() const override {
        return changes_.along_ == Along::Tensor;
    }
    void combineOnDevice(std::int64_t, const DeviceTile& tile) const override {
        DeviceTile referenced = tile;
        if (changes_.reference_ != Reference::Base) referenced.base = tile.inputs[0];
        walk(0, referenced);
    }
#endif

private:
    /// @param tile its base is the reference
    template <typename Tile>
    void walk(std::size_t position, const Tile& tile) const {
        withInputCount(tile.inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            const float* const coefficients = changes_.coefficients_.data() + position * changes_.inputs_;
            forEachElement<kInputs>(
                WeightedChangesCombine<kInputs>{PerInput<float, kInputs>::from(coefficients), changes_.excess_[position]},
                tile);
        });
    }

    void walkColumns(std::size_t column, const HostTile& tile) const {
        std::vector<const float*> coefficients(tile.inputs.size());
        for (std::size_t i = 0; i < coefficients.size(); ++i)
            coefficients[i] = changes_.coefficients_.data() + i * changes_.positions() + column;
        withInputCount(tile.inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(
                ColumnWeightedChangesCombine<kInputs>{PerInput<const float*, kInputs>::from(coefficients.data()),
                                                      changes_.excess_.data() + column},
                tile);
        });
    }

    WeightedChanges changes_;
};

std::unique_ptr<PreparedParameter> WeightedChanges::prepared() && {
    return std::make_unique<PreparedWeightedChanges>(std::move(*this));
}

}  // namespace aimerge
