#pragma once
// The coefficients of a point on the arc between two vectors.

#include <array>
#include <cmath>

namespace aimerge {

/// (1-t) and t.
inline std::array<double, 2> onTheChord(double t) {
    return {1 - t, t};
}

/// sin((1-t) phi) / sin phi and sin(t phi) / sin phi. @param cosine in (-1, 1)
inline std::array<double, 2> onTheArc(double t, double cosine) {
    const double phi = std::acos(cosine), sine = std::sin(phi);
    return {std::sin((1 - t) * phi) / sine, std::sin(t * phi) / sine};
}

}  // namespace aimerge
