#include "report/hypervolume.h"

#include "aimerge/core/file.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <random>

using namespace aimerge;
using testing::ElementsAre;

namespace {

TEST(Hypervolume, IsTheAreaOfAStaircase) {
    EXPECT_EQ(hypervolume({{0.5, 0.25}, {0.25, 0.75}}), 0.5 * 0.25 + 0.25 * 0.5);
    EXPECT_EQ(hypervolume({{0.5, 0.25}, {0.25, 0.75}, {0.25, 0.25}, {0.5, 0.25}}), 0.25);
}

TEST(Hypervolume, OfNothingIsZero) {
    EXPECT_EQ(hypervolume({}), 0);
    EXPECT_EQ(hypervolume({{0, 1}, {1, 0}}), 0);
}

TEST(ExclusiveVolume, IsWhatNobodyElseCovers) {
    EXPECT_EQ(exclusiveVolume({0.5, 0.5}, {{0.25, 1}, {1, 0.25}}), 0.0625);
    EXPECT_EQ(exclusiveVolume({0.5, 0.5}, {}), 0.25);
}

TEST(ExclusiveVolume, OfADominatedOrEqualPointIsExactlyZero) {
    EXPECT_EQ(exclusiveVolume({0.1, 0.2, 0.3}, {{0.1, 0.2, 0.3}}), 0);
    EXPECT_EQ(exclusiveVolume({0.1, 0.2, 0.3}, {{0.9, 0.1, 0.9}, {0.1, 0.3, 0.3}}), 0);
    EXPECT_EQ(exclusiveVolume({0.0, 0.2}, {}), 0);
}

// The difference of the two volumes is 0 in float64; its sixth root is 1e-4.
TEST(ExclusiveVolume, KeepsThePrecisionOfTinyVolumes) {
    const double step = 1e-4;
    ScorePoint point(6, 0.5 + step);
    std::vector<ScorePoint> others;
    for (std::size_t i = 0; i < point.size(); ++i) {
        others.emplace_back(6, 0.5 + step);
        others.back()[i] = 0.5;
    }

    const double edge = point[0] - 0.5;
    EXPECT_NEAR(hypervolumeGain(point, others), edge, 1e-15 * edge * 100);
}

TEST(Hypervolume, GainOfAPointIsTheDthRoot) {
    EXPECT_EQ(hypervolumeGain({0.5, 0.5}, {}), 0.5);
    EXPECT_EQ(hypervolumeGain({}, {}), 0);
}

TEST(Hypervolume, EqualsALibraryOnRandomSets) {
    const std::filesystem::path file = std::filesystem::path(AIMERGE_TEST_DATA) / "report" / "hypervolume.json";
    const auto goldens = nlohmann::json::parse(readTextFile(file));
    ASSERT_GE(goldens["cases"].size(), 70u);

    for (const auto& golden : goldens["cases"]) {
        auto points = golden["points"].get<std::vector<ScorePoint>>();
        EXPECT_NEAR(hypervolume(points), golden["hypervolume"].get<double>(), 1e-12) << golden;
        const ScorePoint last = points.back();
        points.pop_back();
        const double added = golden["hypervolume"].get<double>() - golden["without_last"].get<double>();
        EXPECT_NEAR(exclusiveVolume(last, points), added, 1e-12) << golden;
    }
}

TEST(Hypervolume, DoesNotDependOnTheOrderOfPoints) {
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> uniform;
    std::vector<ScorePoint> points(10, ScorePoint(5));
    for (ScorePoint& point : points)
        for (double& score : point) score = uniform(random);
    const double volume = hypervolume(points);

    for (int shuffle = 0; shuffle < 20; ++shuffle) {
        std::shuffle(points.begin(), points.end(), random);
        EXPECT_NEAR(hypervolume(points), volume, 1e-14);
    }
}

// The worst kind of set, none dominated: a base and 15 experts on 10 benchmarks.
TEST(Hypervolume, TenBenchmarksTakeBoundedTime) {
    std::mt19937_64 random(11);
    std::normal_distribution<double> normal;
    std::vector<ScorePoint> points(16, ScorePoint(10));
    for (ScorePoint& point : points) {
        double squares = 0;
        for (double& score : point) {
            score = std::abs(normal(random));
            squares += score * score;
        }
        for (double& score : point) score /= std::sqrt(squares);
    }
    const auto start = std::chrono::steady_clock::now();

    const double added = exclusiveVolume(points.back(), {points.begin(), points.end() - 1});

    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const double difference = hypervolume(points) - hypervolume({points.begin(), points.end() - 1});
    EXPECT_NEAR(added, difference, 1e-14);
    EXPECT_LT(seconds.count(), 10);
    RecordProperty("seconds", std::to_string(seconds.count()));
}

TEST(ParetoFront, LeavesOutDominatedPointsAndKeepsEqualOnes) {
    EXPECT_THAT(paretoFront({{1, 0}, {0, 1}, {0.5, 0.5}, {0.5, 0.4}, {0.5, 0.5}}),
                ElementsAre(true, true, true, false, true));
}

}  // namespace
