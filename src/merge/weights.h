#pragma once
// The values of a parameter that each input has one of.

#include <vector>

namespace aimerge {

inline std::vector<float> floatsOf(const std::vector<double>& values) {
    return {values.begin(), values.end()};
}

/// Zero, but for the rounding of decimal numbers.
bool addUpToZero(const std::vector<double>& weights);

}  // namespace aimerge
