#pragma once
// From which rows of which inputs the rows of one input's vocabulary tensors are made, so that row t means the same token in
// all inputs. A map says where values come from; whoever reads the tensors applies it.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

struct RowSource {
    std::uint32_t input = 0;  // index of the input model
    std::uint32_t row = 0;    // of that input's tensor

    bool operator==(const RowSource&) const = default;
};

/// Rows [0, alignedRows()) have sources; rows [alignedRows(), rows()) are padding: each is the mean of all aligned rows.
class RowMap {
public:
    /// Rows 0 ... rows-1 of the input as they are.
    static RowMap prefix(std::size_t input, std::int64_t rows);

    /// @param owner the input whose aligned tensor this describes
    explicit RowMap(std::size_t owner) : owner_(owner) {}
    void append(std::span<const RowSource> sources);
    void pad(std::int64_t rows) { paddingRows_ = rows; }

    std::int64_t rows() const { return alignedRows() + paddingRows_; }
    std::int64_t alignedRows() const { return static_cast<std::int64_t>(ends_.size()); }

    /// None: zeros. One: a copy. More: their mean (RowMean), in this order. @pre row < alignedRows()
    std::span<const RowSource> sources(std::int64_t row) const;

    /// True when the tensor's first rows() rows stand as they are: the map need not be applied.
    bool isIdentity() const { return copiesOwnPrefix_ && paddingRows_ == 0; }

    /// How many rows from `row` on copy consecutive rows of one input, so that one read gets them; 0 when `row` is no copy.
    std::int64_t copyRun(std::int64_t row) const;

private:
    std::size_t owner_;
    std::vector<RowSource> sources_;
    std::vector<std::size_t> ends_;  // row r has sources_[ends_[r-1] .. ends_[r])
    std::int64_t paddingRows_ = 0;
    bool copiesOwnPrefix_ = true;
};

/// Mean of rows: summed in float64 in the order of add(), rounded once.
class RowMean {
public:
    explicit RowMean(std::size_t columns) : sums_(columns, 0.0) {}
    void add(std::span<const float> row);
    /// Zeros when nothing was added. The mean of one row is that row.
    void store(std::span<float> out) const;

private:
    std::vector<double> sums_;
    std::int64_t rows_ = 0;
};

}  // namespace aimerge
