#pragma once
// The values of a parameter that each input has one of.

#include <vector>

namespace aimerge {

inline std::vector<float> floatsOf(const std::vector<double>& values) {
    return {values.begin(), values.end()};
}

/// Their sum as float32 arithmetic has it; 1 when it is too small to divide by.
float divisorOf(const std::vector<float>& weights);

/// Zero, but for the rounding of decimal numbers.
bool addUpToZero(const std::vector<double>& weights);

}  // namespace aimerge
