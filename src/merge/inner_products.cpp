#include "merge/inner_products.h"

#include "merge/lanes.h"
#include "merge/row_runs.h"

#include <algorithm>

namespace aimerge {
namespace {

/// Blocks of rows whose sums per column are kept apart and added up in order.
constexpr std::int64_t kColumnBlocks = 16;

/// to[i] = input[i] - base[i], or input[i] where base is null.
void toDouble(const float* input, const float* base, std::size_t count, double* to) {
    vectorised([=]() AIMERGE_INLINE_BODY {
        if (base) {
            for (std::size_t i = 0; i < count; ++i) to[i] = double{input[i]} - double{base[i]};
        } else {
            for (std::size_t i = 0; i < count; ++i) to[i] = input[i];
        }
    });
}

void addProducts(const double* a, const double* b, std::size_t count, std::size_t firstLane, Lanes& lanes) {
    addToLanes(
        count, firstLane, [=](std::size_t i) AIMERGE_INLINE_BODY { return a[i] * b[i]; }, lanes);
}

void addProductsByColumn(const double* a, const double* b, std::size_t count, double* sums) {
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) sums[i] += a[i] * b[i];
    });
}

/// One worker's vectors of a chunk, in float64.
class ChunkVectors {
public:
    void load(const ParameterChunk& chunk, Vectors kind) {
        const float* const subtracted = kind == Vectors::Inputs ? nullptr : chunk.base;
        count_ = chunk.inputs.size() + (kind == Vectors::ChangesAndBase ? 1 : 0);
        if (values_.size() < count_) values_.resize(count_);
        for (std::size_t i = 0; i < count_; ++i) {
            if (values_[i].size() < chunk.count) values_[i].resize(chunk.count);
            const bool isBase = i == chunk.inputs.size();
            toDouble(isBase ? chunk.base : chunk.inputs[i], isBase ? nullptr : subtracted, chunk.count, values_[i].data());
        }
    }

    std::size_t count() const { return count_; }
    const double* operator[](std::size_t vector) const { return values_[vector].data(); }

private:
    std::size_t count_ = 0;
    std::vector<std::vector<double>> values_;
};

class Pass {
public:
    Pass(ParameterReader& parameter, Vectors kind)
        : parameter_(parameter),
          kind_(kind),
          vectors_(parameter.inputs() + (kind == Vectors::ChangesAndBase ? 1 : 0)),
          pairs_(kind == Vectors::ChangesAndBase ? 2 * vectors_ - 1 : vectors_ * (vectors_ + 1) / 2),
          wanted_(parameter.allInputs()),
          places_(static_cast<std::size_t>(parameter.threads().threads())) {}

    InnerProducts ofTensor() {
        std::vector<Lanes> sums(parameter_.spans() * pairs_);
        parameter_.visitAll(wanted_, [&](const ParameterChunk& chunk) {
            const ChunkVectors& values = loaded(chunk);
            const std::size_t lane = static_cast<std::size_t>(chunk.first) % kLanes;
            forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
                addProducts(values[i], values[j], chunk.count, lane, sums[chunk.span * pairs_ + pair]);
            });
        });
        InnerProducts products(1, vectors_);
        forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
            double sum = 0;
            for (std::size_t span = 0; span < parameter_.spans(); ++span) sum += sumOf(sums[span * pairs_ + pair]);
            products.set(0, i, j, sum);
        });
        return products;
    }

    InnerProducts ofRows(MatrixShape matrix) {
        InnerProducts products(static_cast<std::size_t>(matrix.rows), vectors_);
        // About a span of elements each; a row belongs to one block, so the partition leaves no trace in the sums.
        const std::int64_t rows = std::max<std::int64_t>(1, ParameterReader::kSpanElements / matrix.columns);
        const std::int64_t blocks = (matrix.rows + rows - 1) / rows;
        parameter_.threads().forEach(static_cast<std::size_t>(blocks), [&](std::size_t block, int worker) {
            const std::int64_t begin = static_cast<std::int64_t>(block) * rows, end = std::min(matrix.rows, begin + rows);
            std::vector<Lanes> sums(pairs_);
            const auto addRun = [&](const ChunkVectors& values, std::int64_t row, std::int64_t column, std::size_t offset,
                                    std::size_t count) {
                const std::size_t lane = static_cast<std::size_t>(column) % kLanes;
                forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
                    addProducts(values[i] + offset, values[j] + offset, count, lane, sums[pair]);
                });
                if (column + static_cast<std::int64_t>(count) < matrix.columns) return;
                forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
                    products.set(static_cast<std::size_t>(row), i, j, sumOf(sums[pair]));
                    sums[pair] = {};
                });
            };
            visitRows(begin, end, matrix.columns, worker, addRun);
        });
        return products;
    }

    InnerProducts ofColumns(MatrixShape matrix) {
        const auto columns = static_cast<std::size_t>(matrix.columns);
        const std::int64_t blocks = std::min(kColumnBlocks, matrix.rows);
        std::vector<std::vector<double>> sums(static_cast<std::size_t>(blocks));
        parameter_.threads().forEach(sums.size(), [&](std::size_t block, int worker) {
            sums[block].resize(pairs_ * columns);
            const std::int64_t begin = matrix.rows * static_cast<std::int64_t>(block) / blocks;
            const std::int64_t end = matrix.rows * static_cast<std::int64_t>(block + 1) / blocks;
            visitRows(
                begin, end, matrix.columns, worker,
                [&](const ChunkVectors& values, std::int64_t, std::int64_t column, std::size_t offset, std::size_t count) {
                    forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
                        addProductsByColumn(values[i] + offset, values[j] + offset, count,
                                            sums[block].data() + pair * columns + column);
                    });
                });
        });
        InnerProducts products(columns, vectors_);
        forEachPair([&](std::size_t pair, std::size_t i, std::size_t j) {
            for (std::size_t column = 0; column < columns; ++column) {
                double sum = 0;
                for (const std::vector<double>& part : sums) sum += part[pair * columns + column];
                products.set(column, i, j, sum);
            }
        });
        return products;
    }

private:
    /// The pairs i <= j that are wanted, in the order in which sums are kept.
    template <typename Use>
    void forEachPair(const Use& use) const {
        const std::size_t last = vectors_ - 1;
        std::size_t pair = 0;
        for (std::size_t i = 0; i < vectors_; ++i)
            for (std::size_t j = i; j < vectors_; ++j)
                if (kind_ != Vectors::ChangesAndBase || i == j || j == last) use(pair++, i, j);
    }

    const ChunkVectors& loaded(const ParameterChunk& chunk) {
        ChunkVectors& values = places_[static_cast<std::size_t>(chunk.worker)];
        values.load(chunk, kind_);
        return values;
    }

    /// Calls run(vectors, row, column, offset, count) for the stretches of rows [begin, end), in order.
    template <typename Run>
    void visitRows(std::int64_t begin, std::int64_t end, std::int64_t columns, int worker, const Run& run) {
        parameter_.visit(begin * columns, (end - begin) * columns, wanted_, worker, [&](const ParameterChunk& chunk) {
            const ChunkVectors& values = loaded(chunk);
            forEachRowRun(chunk.first, chunk.count, columns,
                          [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                              run(values, row, column, offset, count);
                          });
        });
    }

    ParameterReader& parameter_;
    Vectors kind_;
    std::size_t vectors_, pairs_;
    std::vector<std::size_t> wanted_;
    std::vector<ChunkVectors> places_;  // per worker
};

}  // namespace

MatrixShape MatrixShape::of(const Shape& shape, Along along) {
    const std::int64_t elements = elementCount(shape);
    if (along == Along::Tensor || shape.size() < 2 || elements == 0) return {1, elements};
    if (along == Along::Rows) return {elements / shape.back(), shape.back()};
    return {shape.front(), elements / shape.front()};
}

InnerProducts innerProducts(ParameterReader& parameter, Vectors vectors, Along along) {
    const MatrixShape matrix = MatrixShape::of(parameter.shape(), along);
    Pass pass(parameter, vectors);
    if (along == Along::Tensor) return pass.ofTensor();
    return along == Along::Rows ? pass.ofRows(matrix) : pass.ofColumns(matrix);
}

}  // namespace aimerge
