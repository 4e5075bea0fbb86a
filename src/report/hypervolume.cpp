#include "report/hypervolume.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace aimerge {
namespace {

/// A box and the points that reach into it, each cut off at `high`.
struct Box {
    ScorePoint low, high;
    std::vector<ScorePoint> points;
};

bool atLeast(const ScorePoint& a, const ScorePoint& b) {
    return std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) { return x >= y; });
}

double volume(const ScorePoint& low, const ScorePoint& high) {
    double product = 1;
    for (std::size_t i = 0; i < low.size(); ++i) product *= high[i] - low[i];
    return product;
}

Box makeBox(ScorePoint low, ScorePoint high, const std::vector<ScorePoint>& points) {
    Box box{std::move(low), std::move(high), {}};
    for (const ScorePoint& point : points) {
        bool reachesIn = true;
        for (std::size_t i = 0; i < point.size() && reachesIn; ++i) reachesIn = point[i] > box.low[i];
        if (!reachesIn) continue;
        ScorePoint& cut = box.points.emplace_back(point);
        for (std::size_t i = 0; i < cut.size(); ++i) cut[i] = std::min(cut[i], box.high[i]);
    }
    return box;
}

/// The point that dominates most of the box.
const ScorePoint& pivotOf(const Box& box) {
    return *std::max_element(box.points.begin(), box.points.end(), [&box](const ScorePoint& a, const ScorePoint& b) {
        return volume(box.low, a) < volume(box.low, b);
    });
}

/// Calls action(rest) for disjoint boxes that make up what the pivot does not dominate.
template <typename Action>
void splitAt(const Box& box, const ScorePoint& pivot, Action&& action) {
    ScorePoint high = box.high;
    for (std::size_t i = 0; i < pivot.size(); ++i) {
        if (pivot[i] < box.high[i]) {
            ScorePoint low = box.low;
            low[i] = pivot[i];
            action(makeBox(std::move(low), high, box.points));
        }
        high[i] = pivot[i];
    }
}

double dominatedVolume(const Box& box) {
    if (box.points.empty()) return 0;
    const ScorePoint& pivot = pivotOf(box);
    double sum = volume(box.low, pivot);
    splitAt(box, pivot, [&sum](const Box& rest) { sum += dominatedVolume(rest); });
    return sum;
}

double freeVolume(const Box& box) {
    if (box.points.empty()) return volume(box.low, box.high);
    double sum = 0;
    splitAt(box, pivotOf(box), [&sum](const Box& rest) { sum += freeVolume(rest); });
    return sum;
}

void expectSameLength(const ScorePoint& point, const std::vector<ScorePoint>& others) {
    for (const ScorePoint& other : others)
        if (other.size() != point.size())
            throw RuntimeFault("hypervolume: points of {} and {} scores", point.size(), other.size());
}

}  // namespace

double hypervolume(const std::vector<ScorePoint>& points) {
    if (points.empty() || points.front().empty()) return 0;
    expectSameLength(points.front(), points);
    ScorePoint high = points.front();
    for (const ScorePoint& point : points)
        for (std::size_t i = 0; i < high.size(); ++i) high[i] = std::max(high[i], point[i]);
    return dominatedVolume(makeBox(ScorePoint(high.size(), 0), high, points));
}

double exclusiveVolume(const ScorePoint& point, const std::vector<ScorePoint>& others) {
    expectSameLength(point, others);
    if (point.empty()) return 0;
    return freeVolume(makeBox(ScorePoint(point.size(), 0), point, others));
}

double hypervolumeGain(const ScorePoint& point, const std::vector<ScorePoint>& population) {
    if (point.empty()) return 0;
    return std::pow(exclusiveVolume(point, population), 1.0 / static_cast<double>(point.size()));
}

std::vector<bool> paretoFront(const std::vector<ScorePoint>& points) {
    std::vector<bool> front;
    for (const ScorePoint& point : points)
        front.push_back(std::none_of(points.begin(), points.end(), [&point](const ScorePoint& other) {
            return atLeast(other, point) && !atLeast(point, other);
        }));
    return front;
}

}  // namespace aimerge
