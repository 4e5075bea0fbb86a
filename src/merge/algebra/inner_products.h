#pragma once
// Inner products between the inputs of one parameter, of the whole tensor or of each row or column: what the methods on a
// sphere, model stock and WIDEN decide by. One pass over the parameter; float64 products and sums, in an order that depends
// on the parameter's shape alone.

#include "aimerge/merge/parameter_reader.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aimerge {

enum class Vectors {
    Inputs,          // theta_i
    Changes,         // theta_i - theta_base, subtracted in float64. @pre hasBase()
    ChangesAndBase,  // those, and theta_base as the last vector; products of two changes stay 0
};

enum class Along {
    Tensor,   // the whole of it is one vector
    Rows,     // a vector per row: along the last axis
    Columns,  // a vector per column: along the first axis
};

/// The matrix as methods see it: [rows, columns] with the last axis as columns (Rows), or with the first as rows (Columns).
/// A vector is one row.
struct MatrixShape {
    std::int64_t rows = 1, columns = 1;

    static MatrixShape of(const Shape& shape, Along along);
};

/// Symmetric matrices of inner products, one per vector position (1 for the whole tensor).
class InnerProducts {
public:
    InnerProducts(std::size_t positions, std::size_t vectors) : vectors_(vectors), values_(positions * vectors * vectors) {}

    std::size_t vectors() const { return vectors_; }
    std::size_t positions() const { return values_.size() / (vectors_ * vectors_); }
    double operator()(std::size_t position, std::size_t i, std::size_t j) const {
        return values_[(position * vectors_ + i) * vectors_ + j];
    }
    void set(std::size_t position, std::size_t i, std::size_t j, double value) {
        values_[(position * vectors_ + i) * vectors_ + j] = value;
        values_[(position * vectors_ + j) * vectors_ + i] = value;
    }

private:
    std::size_t vectors_;
    std::vector<double> values_;
};

InnerProducts innerProducts(ParameterReader& parameter, Vectors vectors, Along along);

}  // namespace aimerge
