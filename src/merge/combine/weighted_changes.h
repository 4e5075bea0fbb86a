#pragma once
// A prepared parameter that is a linear combination of its inputs, with coefficients for the whole
// tensor, per row or per column.

#include "aimerge/merge/method.h"
#include "merge/algebra/inner_products.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace aimerge {

/// What theta is written around: src/merge/combine/weighted_combine.h.
enum class Reference { Base, FirstInput };

/// The coefficients of one vector position.
struct Coefficients {
    std::vector<double> perInput;
    double excess = 0;  // e

    /// Those of sum_i c_i theta_i.
    static Coefficients ofSum(std::vector<double> perInput);
};

class WeightedChanges {
public:
    /// @param matrix MatrixShape::of(shape, along)
    WeightedChanges(Reference reference, Along along, MatrixShape matrix, std::size_t inputs);

    /// Thread-safe for different positions: 0 alone, a row, or a column. float32 from here on.
    void set(std::size_t position, const Coefficients& coefficients);

    std::unique_ptr<PreparedParameter> prepared() &&;

private:
    friend class PreparedWeightedChanges;

    std::size_t positions() const;

    Reference reference_;
    Along along_;
    MatrixShape matrix_;
    std::size_t inputs_;
    std::vector<float> coefficients_;  // whole and rows: [position, input]; columns: [input, position]
    std::vector<float> excess_;        // [position]
};

}  // namespace aimerge
