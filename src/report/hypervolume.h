#pragma once
// Exact hypervolumes for maximisation with reference point 0: the volume of the union of the boxes
// [0, p]. All in float64, local.
//
// A box is split at one of the points into the part that this point dominates and one box per dimension for the rest, and so
// on with the points that reach into each (quick hypervolume, Russo and Francisco, IEEE Trans. Evol. Comput. 18(4), 2014).
// Volumes are only ever added, never subtracted: small ones keep their relative precision, which the d-th root of a gain
// would otherwise blow up.

#include <vector>

namespace aimerge {

/// Scores of one model: d numbers, at least 0.
using ScorePoint = std::vector<double>;

/// Volume of the union of [0, p]. Any order; duplicates, dominated points and zeros have no effect. Empty: 0.
double hypervolume(const std::vector<ScorePoint>& points);

/// What `point` adds: the volume of [0, point] outside of every [0, p]. Exactly 0 when another point is at least as good
/// everywhere.
double exclusiveVolume(const ScorePoint& point, const std::vector<ScorePoint>& others);

/// HV gain: the d-th root of exclusiveVolume, scores in [0, 1] (AIM paper, Eq. 6-7). 0 when d is 0.
double hypervolumeGain(const ScorePoint& point, const std::vector<ScorePoint>& population);

/// For each point whether it is on the Pareto front: no other is at least as good everywhere and better somewhere.
std::vector<bool> paretoFront(const std::vector<ScorePoint>& points);

}  // namespace aimerge
