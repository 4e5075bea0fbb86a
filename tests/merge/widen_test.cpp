#include "merge/methods/widen.h"

#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

#include <numeric>

namespace aimerge {
namespace {

using testing::ElementsAre;
using Doubles = std::vector<double>;

ResolvedParameters with(double ratio, double calibration) {
    auto values = parameters(widenMethod(), {});
    setShared(widenMethod(), values, "above_average_value_ratio", ratio);
    setShared(widenMethod(), values, "score_calibration_value", calibration);
    return values;
}

/// The definition as it stands: norms, cosines and sorting.
class Definition {
public:
    Definition(const Shape& shape, const Floats& base, std::vector<Floats> experts, double ratio, double calibration)
        : rows_(static_cast<std::size_t>(shape.front())),
          columns_(static_cast<std::size_t>(elementCount(shape)) / rows_),
          base_(base),
          experts_(std::move(experts)),
          ratio_(ratio),
          calibration_(calibration) {}

    Doubles merged() const {
        std::vector<Doubles> magnitude, direction;
        for (const Floats& expert : experts_) {
            Doubles magnitudes, directions;
            for (std::size_t c = 0; c < columns_; ++c) {
                const long double a = std::sqrt(dot(base_, base_, c)), x = std::sqrt(dot(expert, expert, c));
                magnitudes.push_back(static_cast<double>(std::abs(x - a)));
                directions.push_back(static_cast<double>(1 - dot(base_, expert, c) / (a * x)));
            }
            magnitude.push_back(ranks(magnitudes));
            direction.push_back(ranks(directions));
        }
        Doubles out(base_.begin(), base_.end());
        for (std::size_t i = 0; i < experts_.size(); ++i)
            for (std::size_t e = 0; e < out.size(); ++e)
                out[e] += (score(magnitude, i, e % columns_) + score(direction, i, e % columns_)) / 2 *
                          (double{experts_[i][e]} - double{base_[e]});
        return out;
    }

private:
    long double dot(const Floats& a, const Floats& b, std::size_t column) const {
        long double sum = 0;
        for (std::size_t r = 0; r < rows_; ++r)
            sum += static_cast<long double>(a[r * columns_ + column]) * static_cast<long double>(b[r * columns_ + column]);
        return sum;
    }

    static Doubles ranks(const Doubles& values) {
        std::vector<std::size_t> order(values.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::ranges::stable_sort(order, {}, [&](std::size_t i) { return values[i]; });
        Doubles places(values.size());
        for (std::size_t i = 0; i < order.size(); ++i) places[order[i]] = static_cast<double>(i);
        return places;
    }

    double score(const std::vector<Doubles>& places, std::size_t expert, std::size_t column) const {
        const double n = static_cast<double>(columns_);
        if (places[expert][column] > ratio_ * (n - 1) / 2) return calibration_;
        double sum = 0;
        for (const Doubles& each : places) sum += std::exp(each[column] / n);
        return std::exp(places[expert][column] / n) / sum;
    }

    std::size_t rows_, columns_;
    Floats base_;
    std::vector<Floats> experts_;
    double ratio_, calibration_;
};

std::vector<Floats> expertsOf(const Floats& base, std::size_t count, float scale) {
    std::vector<Floats> experts;
    for (std::size_t i = 0; i < count; ++i) {
        Floats expert = normalValues(base.size(), 2 + i, scale);
        for (std::size_t e = 0; e < expert.size(); ++e) expert[e] += base[e];
        experts.push_back(std::move(expert));
    }
    return experts;
}

Floats transposed(const Floats& matrix, std::size_t rows, std::size_t columns) {
    Floats out(matrix.size());
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) out[c * rows + r] = matrix[r * columns + c];
    return out;
}

// Columns (1,0) and (0,1); the first expert (2,0) and (0,4), the second (1,0) and (1,1). In both the second column moved
// more, or as much and stands behind, so that ranks are 0 and 1/2 in both tables and the second column is above their mean.
const Floats kBase{1, 0, 0, 1};
const std::vector<Floats> kExperts{{2, 0, 0, 4}, {1, 1, 0, 1}};

TEST(Widen, GivesColumnsThatMovedMostTheCalibratedScore) {
    // First column: softmax of equal ranks, 1/2 each. Second: 1 each.
    EXPECT_THAT(combined(widenMethod(), with(1, 1), kBase, kExperts, 1, {2, 2}), ElementsAre(1.5f, 1, 0, 4));
    EXPECT_THAT(combined(widenMethod(), with(1, 2), kBase, kExperts, 1, {2, 2}), ElementsAre(1.5f, 2, 0, 8 - 1));
}

TEST(Widen, WithALargeRatioHasNothingStandOut) {
    EXPECT_THAT(combined(widenMethod(), with(3, 1), kBase, kExperts, 1, {2, 2}), ElementsAre(1.5f, 0.5f, 0, 2.5f));
}

TEST(Widen, OfVectorsScoresEachElement) {
    // |d| = 4 0 0 in both: the mean is 4/3.
    EXPECT_THAT(combined(widenMethod(), with(1, 1), {0, 1, 2}, {{4, 1, 2}, {4, 1, 2}}), ElementsAre(8, 1, 2));
    EXPECT_THAT(combined(widenMethod(), with(4, 1), {0, 1, 2}, {{4, 1, 2}, {4, 1, 2}}), ElementsAre(4, 1, 2));
}

TEST(Widen, IsTheDefinitionForOddAndEvenNumbersOfColumns) {
    for (const Shape& shape : {Shape{31, 47}, Shape{47, 32}, Shape{5, 2}, Shape{9, 1}, Shape{64, 1031}}) {
        for (const std::size_t count : {2, 3, 9}) {
            for (const auto& [ratio, calibration] : {std::pair{1.0, 1.0}, {0.8, 1.5}, {0.0, 0.5}}) {
                const Floats base = normalValues(static_cast<std::size_t>(elementCount(shape)), 1, 0.5f);
                const auto experts = expertsOf(base, count, 0.05f);
                const Doubles expected = Definition(shape, base, experts, ratio, calibration).merged();

                const Floats out = combined(widenMethod(), with(ratio, calibration), base, experts, 2, shape);

                // Values up to 4: a rounding of each product and sum, 2 x 9 + 2 of 2.4e-7.
                for (std::size_t e = 0; e < out.size(); ++e) ASSERT_NEAR(out[e], expected[e], 5e-6) << shapeText(shape);
            }
        }
    }
}

TEST(Widen, SeesAColumnInEachRowOfAnEmbedding) {
    const std::size_t rows = 40, columns = 23;
    const Floats base = normalValues(rows * columns, 1, 0.5f);
    const auto experts = expertsOf(base, 3, 0.05f);
    std::vector<Floats> across;
    for (const Floats& expert : experts) across.push_back(transposed(expert, rows, columns));
    TensorMerge merge = tensorMerge(widenMethod(), with(1, 1), {40, 23}, base, experts);
    merge.parameter.role = Role::Embedding;
    ThreadPool threads(2);
    MemorySink sink;

    mergeTensors({&merge, 1}, {}, DeltaRounding::None, threads, sink);

    const Floats expected = combined(widenMethod(), with(1, 1), transposed(base, rows, columns), across, 1, {23, 40});
    EXPECT_EQ(bitsOf(sink.values<float>(0)), bitsOf(transposed(expected, columns, rows)));
}

TEST(Widen, RanksChangesFarBelowFloat32) {
    // Column j of the expert is turned by about 1e-6 (n - j): 1 - cos = 5e-13 (n - j)^2, no two alike in float64 only.
    const std::int64_t n = 16;
    Floats base(2 * n), expert(2 * n);
    for (std::int64_t j = 0; j < n; ++j) {
        base[static_cast<std::size_t>(j)] = expert[static_cast<std::size_t>(j)] = 1;
        expert[static_cast<std::size_t>(n + j)] = 1e-6f * static_cast<float>(n - j);
    }

    const Floats out = combined(widenMethod(), with(1, 8), base, {expert, base}, 1, {2, n});

    // |theta_i| - |b| = 5e-13 (n - j)^2 too: the first half stands out in both tables.
    for (std::size_t j = 0; j < n / 2; ++j) EXPECT_EQ(out[n + j], 8 * expert[n + j]) << j;
    for (std::size_t j = n / 2; j < n; ++j) EXPECT_LT(out[n + j], expert[n + j]) << j;
}

TEST(Widen, TakesColumnsOfZeros) {
    const Floats base{0, 1, 0, 1}, zero(4);
    const Floats out = combined(widenMethod(), with(1, 1), base, {{2, 0, 2, 0}, zero}, 1, {2, 2});
    for (const float value : out) EXPECT_TRUE(std::isfinite(value));
}

TEST(Widen, OfUnchangedExpertsHasTheBasesBits) {
    const Floats base{-0.0f, 0.3f, 1, 2, -3, 4};
    EXPECT_EQ(bitsOf(combined(widenMethod(), with(1, 1), base, {base, base}, 1, {2, 3})), bitsOf(base));
    EXPECT_EQ(bitsOf(combined(widenMethod(), with(1, 1), base, {base, base})), bitsOf(base));
}

}  // namespace
}  // namespace aimerge
