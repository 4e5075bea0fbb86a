#include "merge/algebra/normal_equations.h"

#include "merge/algebra/tile_product.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

namespace aimerge {
namespace {

/// What one thread works in.
template <typename Real>
struct FactorPlace {
    PackedTile<Real> right;
    std::array<double, kTileElements> sum;
};

template <typename Real>
std::vector<std::unique_ptr<FactorPlace<Real>>> workplacesFor(const ThreadPool& threads) {
    std::vector<std::unique_ptr<FactorPlace<Real>>> places;
    for (int i = 0; i < threads.threads(); ++i) places.push_back(std::make_unique<FactorPlace<Real>>());
    return places;
}

/// Rows of tiles that share a packed right factor: some, but enough groups for all threads. No sum depends on it.
std::int64_t rowsPerGroup(std::int64_t tileRows, const ThreadPool& threads) {
    return std::clamp<std::int64_t>(tileRows / (4 * threads.threads()), 1, 4);
}

/// U of s = U^T U, tile row by tile row; a diagonal tile becomes (its U^T)^-1, by which tiles are multiplied, not divided.
class Cholesky {
public:
    Cholesky(UpperTiles<double>& s, ThreadPool& threads)
        : s_(s), threads_(threads), places_(workplacesFor<double>(threads)) {}

    std::optional<std::int64_t> factor() {
        const std::int64_t rows = s_.tileRows();
        for (std::int64_t j = 0; j < rows; ++j) {
            for (std::int64_t i = 0; i < kTile; ++i) {
                const std::int64_t index = j * kTile + i;
                if (index >= s_.order()) s_.diagonal(index) = 1;  // padding
                diagonal_[static_cast<std::size_t>(i)] = s_.diagonal(index);
            }
            forRightOf(j, [&](std::int64_t i, FactorPlace<double>& place) {
                for (std::int64_t k = 0; k < j; ++k) {
                    place.right.pack(s_.tile(k, i), Transposed::No);
                    addProduct(s_.tile(k, j), Transposed::Yes, place.right, Sign::Minus, s_.tile(j, i));
                }
            });
            if (const auto failed = invertDiagonalTile(s_.tile(j, j))) return j * kTile + *failed;
            forRightOf(j + 1, [&](std::int64_t i, FactorPlace<double>& place) {
                place.right.pack(s_.tile(j, i), Transposed::No);
                place.sum.fill(0);
                addProduct(s_.tile(j, j), Transposed::No, place.right, Sign::Plus, place.sum.data());
                std::ranges::copy(place.sum, s_.tile(j, i));
            });
        }
        return std::nullopt;
    }

    /// n s^-1 = (n U^-1) U^-T, rows of tiles apart from each other.
    void solve(TileMatrix<double>& n) {
        const std::int64_t group = rowsPerGroup(n.tileRows(), threads_);
        threads_.forEach(static_cast<std::size_t>((n.tileRows() + group - 1) / group), [&](std::size_t item, int worker) {
            const std::int64_t begin = static_cast<std::int64_t>(item) * group;
            solveRows(n, begin, std::min(begin + group, n.tileRows()), *places_[static_cast<std::size_t>(worker)]);
        });
    }

private:
    template <typename Work>
    void forRightOf(std::int64_t first, const Work& work) {
        threads_.forEach(static_cast<std::size_t>(s_.tileRows() - first), [&](std::size_t i, int worker) {
            work(first + static_cast<std::int64_t>(i), *places_[static_cast<std::size_t>(worker)]);
        });
    }

    void solveRows(TileMatrix<double>& n, std::int64_t begin, std::int64_t end, FactorPlace<double>& place) const {
        const std::int64_t columns = s_.tileRows();
        for (std::int64_t j = 0; j < columns; ++j) {
            for (std::int64_t k = 0; k < j; ++k) eliminate(n, begin, end, k, j, s_.tile(k, j), Transposed::No, place);
            multiply(n, begin, end, j, Transposed::Yes, place);
        }
        for (std::int64_t j = columns - 1; j >= 0; --j) {
            for (std::int64_t k = j + 1; k < columns; ++k)
                eliminate(n, begin, end, k, j, s_.tile(j, k), Transposed::Yes, place);
            multiply(n, begin, end, j, Transposed::No, place);
        }
    }

    static void eliminate(TileMatrix<double>& n, std::int64_t begin, std::int64_t end, std::int64_t from, std::int64_t to,
                          const double* factor, Transposed transposed, FactorPlace<double>& place) {
        place.right.pack(factor, transposed);
        for (std::int64_t row = begin; row < end; ++row)
            addProduct(n.tile(row, from), Transposed::No, place.right, Sign::Minus, n.tile(row, to));
    }

    void multiply(TileMatrix<double>& n, std::int64_t begin, std::int64_t end, std::int64_t j, Transposed transposed,
                  FactorPlace<double>& place) const {
        place.right.pack(s_.tile(j, j), transposed);
        for (std::int64_t row = begin; row < end; ++row) {
            place.sum.fill(0);
            addProduct(n.tile(row, j), Transposed::No, place.right, Sign::Plus, place.sum.data());
            std::ranges::copy(place.sum, n.tile(row, j));
        }
    }

    /// a = L L^T is replaced by L^-1. @return the row at which a is not positive definite
    std::optional<std::int64_t> invertDiagonalTile(double* a) const {
        constexpr double kLeastPivot = 0x1p-22;
        for (std::int64_t c = 0; c < kTile; ++c) {
            for (std::int64_t r = c; r < kTile; ++r)
                for (std::int64_t k = 0; k < c; ++k) a[r * kTile + c] -= a[r * kTile + k] * a[c * kTile + k];
            const double pivot = a[c * kTile + c];
            if (!(pivot > kLeastPivot * diagonal_[static_cast<std::size_t>(c)])) return c;
            const double root = std::sqrt(pivot);
            for (std::int64_t r = c; r < kTile; ++r) a[r * kTile + c] /= root;
        }

        // From the last column to the first: [l 0; v M]^-1 = [1/l 0; -M^-1 v / l  M^-1].
        std::array<double, kTile> below;
        for (std::int64_t c = kTile - 1; c >= 0; --c) {
            for (std::int64_t r = c; r < kTile; ++r) below[static_cast<std::size_t>(r)] = a[r * kTile + c];
            const double inverse = 1 / a[c * (kTile + 1)];
            for (std::int64_t r = 0; r < c; ++r) a[r * kTile + c] = 0;
            a[c * (kTile + 1)] = inverse;
            for (std::int64_t r = c + 1; r < kTile; ++r) {
                double sum = 0;
                for (std::int64_t k = c + 1; k <= r; ++k) sum += a[r * kTile + k] * below[static_cast<std::size_t>(k)];
                a[r * kTile + c] = -sum * inverse;
            }
        }
        return std::nullopt;
    }

    UpperTiles<double>& s_;
    ThreadPool& threads_;
    std::vector<std::unique_ptr<FactorPlace<double>>> places_;
    std::array<double, kTile> diagonal_{};  // of the tile row in work, as it was before elimination
};

}  // namespace

void computeGram(const TileMatrix<float>& d, double scale, UpperTiles<float>& gram, ThreadPool& threads) {
    const auto places = workplacesFor<float>(threads);
    std::vector<std::pair<std::int64_t, std::int64_t>> tiles;
    for (std::int64_t column = 0; column < gram.tileRows(); ++column)
        for (std::int64_t row = 0; row <= column; ++row) tiles.emplace_back(row, column);
    threads.forEach(tiles.size(), [&](std::size_t i, int worker) {
        const auto [row, column] = tiles[i];
        FactorPlace<float>& place = *places[static_cast<std::size_t>(worker)];
        place.sum.fill(0);
        for (std::int64_t k = 0; k < d.tileRows(); ++k) {
            place.right.pack(d.tile(k, column), Transposed::No);
            addProduct(d.tile(k, row), Transposed::Yes, place.right, Sign::Plus, place.sum.data());
        }
        std::ranges::transform(place.sum, gram.tile(row, column),
                               [=](double sum) { return static_cast<float>(scale * sum); });
    });
}

void addTiles(const UpperTiles<float>& c, UpperTiles<double>& sum, ThreadPool& threads) {
    threads.forEach(c.tiles(), [&](std::size_t number, int) {
        const float* const from = c.tile(number);
        double* const to = sum.tile(number);
        for (std::size_t i = 0; i < kTileElements; ++i) to[i] += from[i];
    });
}

void addSymmetricProduct(const TileMatrix<float>& e, const UpperTiles<float>& c, TileMatrix<double>& n,
                         ThreadPool& threads) {
    const auto places = workplacesFor<float>(threads);
    const std::int64_t columns = c.tileRows(), group = rowsPerGroup(e.tileRows(), threads);
    const std::int64_t groups = (e.tileRows() + group - 1) / group;
    threads.forEach(static_cast<std::size_t>(groups * columns), [&](std::size_t item, int worker) {
        const std::int64_t j = static_cast<std::int64_t>(item) % columns;
        const std::int64_t begin = static_cast<std::int64_t>(item) / columns * group,
                           end = std::min(begin + group, e.tileRows());
        PackedTile<float>& right = places[static_cast<std::size_t>(worker)]->right;
        for (std::int64_t k = 0; k < columns; ++k) {
            if (k <= j)
                right.pack(c.tile(k, j), Transposed::No);
            else
                right.pack(c.tile(j, k), Transposed::Yes);
            for (std::int64_t row = begin; row < end; ++row)
                addProduct(e.tile(row, k), Transposed::No, right, Sign::Plus, n.tile(row, j));
        }
    });
}

std::optional<std::int64_t> solveInPlace(UpperTiles<double>& s, TileMatrix<double>& n, ThreadPool& threads) {
    Cholesky cholesky(s, threads);
    if (const auto failed = cholesky.factor()) return failed;
    cholesky.solve(n);
    return std::nullopt;
}

}  // namespace aimerge
