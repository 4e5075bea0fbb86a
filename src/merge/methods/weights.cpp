#include "merge/methods/weights.h"

#include <cmath>

namespace aimerge {

float divisorOf(const std::vector<float>& weights) {
    float sum = 0;
    for (const float weight : weights) sum += weight;
    return std::abs(sum) < 1e-8f ? 1.0f : sum;
}

bool addUpToZero(const std::vector<double>& weights) {
    double total = 0, magnitude = 0;
    for (const double weight : weights) {
        total += weight;
        magnitude += std::abs(weight);
    }
    return std::abs(total) <= 1e-12 * magnitude;
}

}  // namespace aimerge
