#include "merge/algebra/inner_products.h"

#include "merge/combine/for_each_element.h"
#include "merge/selection/lanes.h"
#include "merge/sources/row_runs.h"

#include <algorithm>
#include <array>
#include <utility>

namespace aimerge {
namespace {

/// Blocks of rows whose sums per column are kept apart and added up in order.
constexpr std::int64_t kColumnBlocks = 16;

/// Calls use(pair, i, j) for the pairs of vectors i <= j that are wanted, in the order in which sums are kept.
template <typename Use>
constexpr void forEachPair(Vectors kind, std::size_t vectors, const Use& use) {
    std::size_t pair = 0;
    for (std::size_t i = 0; i < vectors; ++i)
        for (std::size_t j = i; j < vectors; ++j)
            if (kind != Vectors::ChangesAndBase || i == j || j == vectors - 1) use(pair++, i, j);
}

constexpr std::size_t vectorsOf(Vectors kind, std::size_t inputs) {
    return inputs + (kind == Vectors::ChangesAndBase ? 1 : 0);
}
constexpr std::size_t pairsOf(Vectors kind, std::size_t inputs) {
    return kind == Vectors::ChangesAndBase ? 2 * inputs + 1 : inputs * (inputs + 1) / 2;
}

/// The products of all pairs at an element, in float64; every value is read once.
template <Vectors kKind, int kInputs>
class AllPairs {
public:
    static constexpr std::size_t kPairs = pairsOf(kKind, kInputs);

    AllPairs(const ParameterChunk& chunk, std::size_t offset)
        : base_(kKind == Vectors::Inputs ? nullptr : chunk.base + offset),
          inputs_(PerInput<const float*, kInputs>::from(chunk.inputs.data())) {
        for (const float*& values : inputs_.values) values += offset;
    }

    /// Calls add(pair, product).
    template <typename Add>
    AIMERGE_INLINE_BODY void multiply(std::size_t e, const Add& add) const {
        constexpr std::size_t kVectors = vectorsOf(kKind, kInputs);
        double values[kVectors];
        const double own = kKind == Vectors::Inputs ? 0.0 : double{base_[e]};
        for (int i = 0; i < kInputs; ++i)
            values[i] = kKind == Vectors::Inputs ? double{inputs_[i][e]} : double{inputs_[i][e]} - own;
        if (kKind == Vectors::ChangesAndBase) values[kVectors - 1] = own;
        multiplyPairs(values, add, std::make_index_sequence<kPairs>());
    }

private:
    static constexpr auto kPlaces = [] {
        std::array<std::array<std::size_t, 2>, kPairs> places{};
        forEachPair(kKind, vectorsOf(kKind, kInputs), [&](std::size_t pair, std::size_t i, std::size_t j) {
            places[pair] = {i, j};
        });
        return places;
    }();

    /// Not a loop: the compiler would not unroll it, nor then vectorise the one around it.
    template <typename Add, std::size_t... kPair>
    AIMERGE_INLINE_BODY static void multiplyPairs(const double* values, const Add& add, std::index_sequence<kPair...>) {
        (add(kPair, values[kPlaces[kPair][0]] * values[kPlaces[kPair][1]]), ...);
    }

    const float* base_;
    PerInput<const float*, kInputs> inputs_;
};

/// The products of one pair, for more inputs than are compiled one by one.
class OnePair {
public:
    static constexpr std::size_t kPairs = 1;

    OnePair(Vectors kind, const ParameterChunk& chunk, std::size_t offset, std::size_t i, std::size_t j) {
        const std::size_t numbers[] = {i, j};
        for (int side = 0; side < 2; ++side) {
            const bool isBase = numbers[side] == chunk.inputs.size();
            values_[side] = (isBase ? chunk.base : chunk.inputs[numbers[side]]) + offset;
            subtracted_[side] = isBase || kind == Vectors::Inputs ? nullptr : chunk.base + offset;
        }
    }

    template <typename Add>
    AIMERGE_INLINE_BODY void multiply(std::size_t e, const Add& add) const {
        add(0, at(0, e) * at(1, e));
    }

private:
    AIMERGE_INLINE_BODY double at(int side, std::size_t e) const {
        const double value = values_[side][e];
        return subtracted_[side] ? value - double{subtracted_[side][e]} : value;
    }

    const float* values_[2];
    const float* subtracted_[2];  // null: nothing
};

/// Calls use(first pair, their products) for a chunk's pairs from the element `offset` on, all or one at a time.
template <Vectors kKind, typename Use>
void withProductsOf(const ParameterChunk& chunk, std::size_t offset, const Use& use) {
    withInputCount(chunk.inputs.size(), [&](auto number) {
        if constexpr (number == kAnyNumber)
            forEachPair(kKind, vectorsOf(kKind, chunk.inputs.size()), [&](std::size_t pair, std::size_t i, std::size_t j) {
                use(pair, OnePair(kKind, chunk, offset, i, j));
            });
        else
            use(std::size_t{0}, AllPairs<kKind, number>(chunk, offset));
    });
}
template <typename Use>
void withProducts(Vectors kind, const ParameterChunk& chunk, std::size_t offset, const Use& use) {
    switch (kind) {
        case Vectors::Inputs:
            return withProductsOf<Vectors::Inputs>(chunk, offset, use);
        case Vectors::Changes:
            return withProductsOf<Vectors::Changes>(chunk, offset, use);
        case Vectors::ChangesAndBase:
            return withProductsOf<Vectors::ChangesAndBase>(chunk, offset, use);
    }
}

/// Every column adds to a sum of its own: sums[pair * stride + column].
template <typename Products>
void addByColumn(const Products& products, std::size_t count, double* sums, std::size_t stride) {
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t e = 0; e < count; ++e)
            products.multiply(
                e, [=](std::size_t pair, double product) AIMERGE_INLINE_BODY { sums[pair * stride + e] += product; });
    });
}

/// As addToLanes() (merge/selection/lanes.h): to sums[pair].
template <typename Products>
void addByLane(const Products& products, std::size_t count, std::size_t firstLane, Lanes* sums) {
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto addOne = [=](std::size_t e) AIMERGE_INLINE_BODY {
            products.multiply(e, [=](std::size_t pair, double product)
                                     AIMERGE_INLINE_BODY { sums[pair][(firstLane + e) % kLanes] += product; });
        };
        std::size_t e = 0;
        for (; e < count && (firstLane + e) % kLanes != 0; ++e) addOne(e);
        double own[Products::kPairs][kLanes];  // in registers
        for (std::size_t pair = 0; pair < Products::kPairs; ++pair)
            for (std::size_t lane = 0; lane < kLanes; ++lane) own[pair][lane] = sums[pair][lane];
        for (; e + kLanes <= count; e += kLanes)
            for (std::size_t lane = 0; lane < kLanes; ++lane)
                products.multiply(e + lane, [&own, lane](std::size_t pair, double product)
                                                AIMERGE_INLINE_BODY { own[pair][lane] += product; });
        for (std::size_t pair = 0; pair < Products::kPairs; ++pair)
            for (std::size_t lane = 0; lane < kLanes; ++lane) sums[pair][lane] = own[pair][lane];
        for (; e < count; ++e) addOne(e);
    });
}

class Pass {
public:
    Pass(ParameterReader& parameter, Vectors kind)
        : parameter_(parameter),
          kind_(kind),
          vectors_(vectorsOf(kind, parameter.inputs())),
          pairs_(pairsOf(kind, parameter.inputs())),
          wanted_(parameter.allInputs()) {}

    InnerProducts ofTensor() {
        std::vector<Lanes> sums(parameter_.spans() * pairs_);
        parameter_.visitAll(wanted_, [&](const ParameterChunk& chunk) {
            const std::size_t lane = static_cast<std::size_t>(chunk.first) % kLanes;
            withProducts(kind_, chunk, 0, [&](std::size_t firstPair, const auto& products) {
                addByLane(products, chunk.count, lane, &sums[chunk.span * pairs_ + firstPair]);
            });
        });
        InnerProducts products(1, vectors_);
        forEachPair(kind_, vectors_, [&](std::size_t pair, std::size_t i, std::size_t j) {
            double sum = 0;
            for (std::size_t span = 0; span < parameter_.spans(); ++span) sum += sumOf(sums[span * pairs_ + pair]);
            products.set(0, i, j, sum);
        });
        return products;
    }

    InnerProducts ofRows(MatrixShape matrix) {
        InnerProducts products(static_cast<std::size_t>(matrix.rows), vectors_);
        // About a span of elements each; a row belongs to one block, so the partition leaves no trace in the sums.
        const std::int64_t rows =
            std::max<std::int64_t>(1, ParameterReader::kSpanElements / std::max<std::int64_t>(1, matrix.columns));
        const std::int64_t blocks = (matrix.rows + rows - 1) / rows;
        parameter_.threads().forEach(static_cast<std::size_t>(blocks), [&](std::size_t block, int worker) {
            const std::int64_t begin = static_cast<std::int64_t>(block) * rows, end = std::min(matrix.rows, begin + rows);
            std::vector<Lanes> sums(pairs_);
            const auto addRun = [&](const ParameterChunk& chunk, std::int64_t row, std::int64_t column, std::size_t offset,
                                    std::size_t count) {
                const std::size_t lane = static_cast<std::size_t>(column) % kLanes;
                withProducts(kind_, chunk, offset, [&](std::size_t firstPair, const auto& stretch) {
                    addByLane(stretch, count, lane, &sums[firstPair]);
                });
                if (column + static_cast<std::int64_t>(count) < matrix.columns) return;
                forEachPair(kind_, vectors_, [&](std::size_t pair, std::size_t i, std::size_t j) {
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
                [&](const ParameterChunk& chunk, std::int64_t, std::int64_t column, std::size_t offset, std::size_t count) {
                    withProducts(kind_, chunk, offset, [&](std::size_t firstPair, const auto& stretch) {
                        addByColumn(stretch, count, sums[block].data() + firstPair * columns + column, columns);
                    });
                });
        });
        InnerProducts products(columns, vectors_);
        forEachPair(kind_, vectors_, [&](std::size_t pair, std::size_t i, std::size_t j) {
            for (std::size_t column = 0; column < columns; ++column) {
                double sum = 0;
                for (const std::vector<double>& part : sums) sum += part[pair * columns + column];
                products.set(column, i, j, sum);
            }
        });
        return products;
    }

private:
    /// Calls run(chunk, row, column, offset, count) for the stretches of rows [begin, end), in order.
    template <typename Run>
    void visitRows(std::int64_t begin, std::int64_t end, std::int64_t columns, int worker, const Run& run) {
        parameter_.visit(begin * columns, (end - begin) * columns, wanted_, worker, [&](const ParameterChunk& chunk) {
            forEachRowRun(chunk.first, chunk.count, columns,
                          [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                              run(chunk, row, column, offset, count);
                          });
        });
    }

    ParameterReader& parameter_;
    Vectors kind_;
    std::size_t vectors_, pairs_;
    std::vector<std::size_t> wanted_;
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
