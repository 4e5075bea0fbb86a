#include "merge/algebra/layer_system.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/tensor_source.h"
#include "merge/algebra/normal_equations.h"
#include "merge/algebra/tile_matrix.h"

#include <array>
#include <numeric>

namespace aimerge {
namespace {

/// C_i = weight times the Gram matrix, off-diagonal elements times alpha.
void readGram(const TensorSource& source, double weight, double alpha, UpperTiles<float>& gram, ThreadPool& threads) {
    const std::int64_t order = gram.order();
    threads.forEach(static_cast<std::size_t>(gram.tileRows()), [&](std::size_t tileRow, int) {
        const std::int64_t begin = static_cast<std::int64_t>(tileRow) * kTile, end = std::min(begin + kTile, order);
        std::vector<std::byte> bytes(static_cast<std::size_t>(order - begin) * bytesPerElement(source.dtype()));
        std::vector<float> values(static_cast<std::size_t>(order - begin));
        for (std::int64_t row = begin; row < end; ++row) {
            source.fetch(row * order + begin, bytes);
            source.convert(row * order + begin, bytes.data(), values);
            for (std::int64_t column = begin; column < order; ++column) {
                const double factor = row == column ? weight : weight * alpha;
                gram.tile(begin / kTile, column / kTile)[(row - begin) * kTile + column % kTile] =
                    static_cast<float>(factor * values[static_cast<std::size_t>(column - begin)]);
            }
        }
    });
}

/// to = W_input - W_base. @return ||to||_F^2
double readTaskVector(ParameterReader& parameter, std::size_t input, TileMatrix<float>& to) {
    std::vector<double> squares(parameter.spans());
    parameter.visitAll(std::array{input}, [&](const ParameterChunk& chunk) {
        const float *const theta = chunk.inputs[input] - chunk.first, *const base = chunk.base - chunk.first;
        const auto count = static_cast<std::int64_t>(chunk.count);
        to.forStretches(chunk.first, count, [&](float* values, std::int64_t index, std::int64_t length) {
            for (std::int64_t i = 0; i < length; ++i) {
                values[i] = theta[index + i] - base[index + i];
                squares[chunk.span] += double{values[i]} * values[i];
            }
        });
    });
    return std::accumulate(squares.begin(), squares.end(), 0.0);
}

/// to = W_input - W_1
void readDifference(ParameterReader& parameter, std::size_t input, TileMatrix<float>& to) {
    parameter.visitAll(std::array{std::size_t{0}, input}, [&](const ParameterChunk& chunk) {
        const float *const theta = chunk.inputs[input] - chunk.first, *const first = chunk.inputs[0] - chunk.first;
        const auto count = static_cast<std::int64_t>(chunk.count);
        to.forStretches(chunk.first, count, [&](float* values, std::int64_t index, std::int64_t length) {
            for (std::int64_t i = 0; i < length; ++i) values[i] = theta[index + i] - first[index + i];
        });
    });
}

/// s += r I;  n += r sum_i share_i (W_i - W_1)
void addRidge(ParameterReader& parameter, double r, const std::vector<double>& shares, UpperTiles<double>& s,
              TileMatrix<double>& n) {
    for (std::int64_t i = 0; i < s.order(); ++i) s.diagonal(i) += r;
    parameter.visitAll(parameter.allInputs(), [&](const ParameterChunk& chunk) {
        const auto count = static_cast<std::int64_t>(chunk.count);
        n.forStretches(chunk.first, count, [&](double* values, std::int64_t index, std::int64_t length) {
            const std::int64_t offset = index - chunk.first;
            const float* const first = chunk.inputs[0] + offset;
            for (std::size_t input = 1; input < shares.size(); ++input) {
                const float* const theta = chunk.inputs[input] + offset;
                for (std::int64_t i = 0; i < length; ++i) values[i] += r * shares[input] * (theta[i] - first[i]);
            }
        });
    });
}

double traceOf(UpperTiles<double>& s) {
    double trace = 0;
    for (std::int64_t i = 0; i < s.order(); ++i) trace += s.diagonal(i);
    return trace;
}

std::vector<float> rowMajor(TileMatrix<double>& x, std::int64_t elements, ThreadPool& threads) {
    std::vector<float> values(static_cast<std::size_t>(elements));
    const std::int64_t span = ParameterReader::kSpanElements;
    threads.forEach(static_cast<std::size_t>((elements + span - 1) / span), [&](std::size_t i, int) {
        const std::int64_t first = static_cast<std::int64_t>(i) * span;
        x.forStretches(first, std::min(span, elements - first),
                       [&](const double* from, std::int64_t index, std::int64_t length) {
                           for (std::int64_t k = 0; k < length; ++k)
                               values[static_cast<std::size_t>(index + k)] = static_cast<float>(from[k]);
                       });
    });
    return values;
}

/// Adds the experts' C_i to s, and (W_i - W_1) C_i to n.
void addExperts(const LayerSystem& system, ParameterReader& parameter, UpperTiles<double>& s, TileMatrix<double>& n) {
    ThreadPool& threads = parameter.threads();
    TileMatrix<float> changes(parameter.shape()[0], parameter.shape()[1]);
    UpperTiles<float> c(parameter.shape()[1]);
    for (std::size_t input = 0; input < parameter.inputs(); ++input) {
        const double weight = system.weights[input];
        if (weight == 0) continue;
        if (system.matrix == ExpertMatrix::InputGram) {
            readGram(*parameter.gramOf(input), weight, system.alpha, c, threads);
        } else {
            const double squaredNorm = readTaskVector(parameter, input, changes);
            if (squaredNorm == 0) continue;
            const double scale = system.matrix == ExpertMatrix::TaskVector ? weight : weight / squaredNorm;
            computeGram(changes, scale, c, threads);
        }
        addTiles(c, s, threads);
        if (input == 0) continue;
        readDifference(parameter, input, changes);
        addSymmetricProduct(changes, c, n, threads);
    }
}

}  // namespace

std::vector<float> LayerSystem::solve(ParameterReader& parameter) const {
    const std::int64_t rows = parameter.shape()[0], columns = parameter.shape()[1];
    UpperTiles<double> s(columns);
    TileMatrix<double> n(rows, columns);
    addExperts(*this, parameter, s, n);
    const double trace = traceOf(s);
    if (trace == 0) return {};
    if (ridge > 0) addRidge(parameter, ridge * trace / static_cast<double>(columns), shares, s, n);
    if (const auto channel = solveInPlace(s, n, parameter.threads()))
        throw InputError(
            "{}: the experts' matrices add up to a singular one, at input channel {} of {}; set ridge above {}, so that "
            "what "
            "they leave open gets the mean",
            parameter.name(), *channel, columns, ridge);
    return rowMajor(n, parameter.elements(), parameter.threads());
}

std::uint64_t LayerSystem::workingBytes(std::int64_t rows, std::int64_t columns) {
    const std::uint64_t building = TileMatrix<float>::bytes(rows, columns) + UpperTiles<float>::bytes(columns);
    const std::uint64_t correction = static_cast<std::uint64_t>(rows * columns) * sizeof(float);
    return UpperTiles<double>::bytes(columns) + TileMatrix<double>::bytes(rows, columns) + std::max(building, correction);
}

}  // namespace aimerge
