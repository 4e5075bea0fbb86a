#include "merge/methods/widen.h"

#include "merge/algebra/inner_products.h"
#include "merge/combine/weighted_changes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace aimerge {
namespace {

enum WidenParameter { kAboveAverageValueRatio, kScoreCalibrationValue };

/// [expert][column]
using Table = std::vector<std::vector<double>>;

/// How far one column of an expert is from the base's.
struct ColumnChange {
    double magnitude = 0;  // | m(theta_i) - m(base) |
    double direction = 0;  // 1 - cos
};

ColumnChange columnChange(const InnerProducts& products, std::size_t column, std::size_t expert) {
    const std::size_t baseVector = products.vectors() - 1;
    const double bb = products(column, baseVector, baseVector), bd = products(column, expert, baseVector),
                 dd = products(column, expert, expert);
    const double square = std::max(bb + 2 * bd + dd, 0.0);  // |theta_i|^2
    const double norms = std::sqrt(bb) + std::sqrt(square), product = std::sqrt(bb) * std::sqrt(square);
    ColumnChange change;
    if (norms > 0) change.magnitude = std::abs(2 * bd + dd) / norms;
    if (product == 0) return change;
    const double dot = bb + bd;  // <b, theta_i>
    change.direction = dot > 0 ? std::max(bb * dd - bd * bd, 0.0) / (product * (product + dot)) : 1 - dot / product;
    return change;
}

/// The place of each value in ascending order, equal ones by index, divided by their number.
std::vector<double> ranksOf(const std::vector<double>& values) {
    std::vector<std::uint32_t> order(values.size());
    std::iota(order.begin(), order.end(), std::uint32_t{0});
    std::ranges::sort(
        order, [&](std::uint32_t a, std::uint32_t b) { return values[a] != values[b] ? values[a] < values[b] : a < b; });
    std::vector<double> ranks(values.size());
    for (std::size_t place = 0; place < order.size(); ++place)
        ranks[order[place]] = static_cast<double>(place) / static_cast<double>(order.size());
    return ranks;
}

/// From R to s, column by column. @param thresholds of each expert: scores above are `calibrated`
void score(Table& table, std::span<const double> thresholds, double calibrated) {
    std::vector<double> exponentials(table.size());
    for (std::size_t column = 0; column < table.front().size(); ++column) {
        double sum = 0;
        for (std::size_t i = 0; i < table.size(); ++i) {
            exponentials[i] = std::exp(table[i][column]);
            sum += exponentials[i];
        }
        for (std::size_t i = 0; i < table.size(); ++i) {
            double& entry = table[i][column];
            entry = entry > thresholds[i] ? calibrated : exponentials[i] / sum;
        }
    }
}

class Scores {
public:
    Scores(ParameterReader& parameter, const ResolvedParameters& values)
        : parameter_(parameter),
          experts_(parameter.inputs()),
          ratio_(values.shared[kAboveAverageValueRatio]),
          calibrated_(values.shared[kScoreCalibrationValue]) {}

    WeightedChanges ofMatrix() {
        const bool isEmbedding = parameter_.role() == Role::Embedding;
        const Along along = isEmbedding ? Along::Rows : Along::Columns;
        const InnerProducts products = innerProducts(parameter_, Vectors::ChangesAndBase, along);
        const std::size_t columns = products.positions();

        Table magnitude(experts_, std::vector<double>(columns)), direction = magnitude;
        parameter_.threads().forEach(experts_, [&](std::size_t i, int) {
            for (std::size_t column = 0; column < columns; ++column) {
                const ColumnChange change = columnChange(products, column, i);
                magnitude[i][column] = change.magnitude;
                direction[i][column] = change.direction;
            }
            magnitude[i] = ranksOf(magnitude[i]);
            direction[i] = ranksOf(direction[i]);
        });

        // In this order: a rank of exactly ratio (n - 1) / 2 gives the same quotient, and is not above.
        const double n = static_cast<double>(columns), threshold = ratio_ * (n - 1) / 2 / n;
        const std::vector<double> thresholds(experts_, threshold);
        score(magnitude, thresholds, calibrated_);
        score(direction, thresholds, calibrated_);
        return changesOf(along, columns, [&](std::size_t i, std::size_t column) {
            return (magnitude[i][column] + direction[i][column]) / 2;
        });
    }

    WeightedChanges ofVector() {
        const auto elements = static_cast<std::size_t>(parameter_.elements());
        Table table(experts_, std::vector<double>(elements));
        parameter_.visitAll(parameter_.allInputs(), [&](const ParameterChunk& chunk) {
            for (std::size_t i = 0; i < experts_; ++i) {
                double* const to = table[i].data() + chunk.first;
                for (std::size_t e = 0; e < chunk.count; ++e)
                    to[e] = std::abs(double{chunk.inputs[i][e]} - double{chunk.base[e]});
            }
        });
        std::vector<double> thresholds;
        for (const std::vector<double>& row : table)
            thresholds.push_back(ratio_ * (std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(elements)));
        score(table, thresholds, calibrated_);
        return changesOf(Along::Columns, elements, [&](std::size_t i, std::size_t element) { return table[i][element]; });
    }

private:
    template <typename ScoreAt>
    WeightedChanges changesOf(Along along, std::size_t positions, const ScoreAt& scoreAt) const {
        WeightedChanges changes(Reference::Base, along, MatrixShape::of(parameter_.shape(), along), experts_);
        Coefficients coefficients{std::vector<double>(experts_), 0};
        for (std::size_t position = 0; position < positions; ++position) {
            for (std::size_t i = 0; i < experts_; ++i) coefficients.perInput[i] = scoreAt(i, position);
            changes.set(position, coefficients);
        }
        return changes;
    }

    ParameterReader& parameter_;
    std::size_t experts_;
    double ratio_, calibrated_;
};

class Widen : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "widen",
                                     .description = "Adds the experts' changes by how much they moved each column",
                                     .paper = "Yu et al. 2024, WIDEN, arXiv 2408.03092",
                                     .base = BaseUse::Required,
                                     .minInputs = 2,
                                     .parameters = {{.name = "above_average_value_ratio",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 1.0,
                                                     .description = "columns above this times the average stand out",
                                                     .minimum = 0},
                                                    {.name = "score_calibration_value",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 1.0,
                                                     .description = "score of what stands out",
                                                     .minimum = 0}},
                                     .readsColumns = true,
                                     .unequalVocabularies = UnequalVocabularies::PaddedToLargest};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        Scores scores(parameter, values);
        return (parameter.shape().size() < 2 ? scores.ofVector() : scores.ofMatrix()).prepared();
    }
};

}  // namespace

const Method& widenMethod() {
    static const Widen method;
    return method;
}

}  // namespace aimerge
