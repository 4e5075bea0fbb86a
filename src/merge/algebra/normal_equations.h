#pragma once
// The dense linear algebra of X S = N for a symmetric positive definite S: Gram matrices, products with symmetric matrices,
// Cholesky factorisation and solution, over all threads. Every tile is computed by one thread in a fixed order, so the bits
// depend neither on threads nor on the instruction set.

#include "aimerge/core/thread_pool.h"
#include "merge/algebra/tile_matrix.h"

#include <cstdint>
#include <optional>

namespace aimerge {

/// gram = scale d^T d, rounded once to float32. @pre gram.order() is the number of columns of d
void computeGram(const TileMatrix<float>& d, double scale, UpperTiles<float>& gram, ThreadPool& threads);

/// sum += c. @pre both have the same order
void addTiles(const UpperTiles<float>& c, UpperTiles<double>& sum, ThreadPool& threads);

/// n += e c for the symmetric c, of which the diagonal tiles are given whole.
void addSymmetricProduct(const TileMatrix<float>& e, const UpperTiles<float>& c, TileMatrix<double>& n, ThreadPool& threads);

/// Replaces n by n s^-1; s is used up.
/// @return nothing, or the first row of s at which it is not positive definite: less than 2^-22 of its diagonal element is
///         left there, which is what the rounding of float32 entries leaves of nothing. n is then undefined.
[[nodiscard]] std::optional<std::int64_t> solveInPlace(UpperTiles<double>& s, TileMatrix<double>& n, ThreadPool& threads);

}  // namespace aimerge
