#include "merge/weights.h"

#include <cmath>

namespace aimerge {

bool addUpToZero(const std::vector<double>& weights) {
    double total = 0, magnitude = 0;
    for (const double weight : weights) {
        total += weight;
        magnitude += std::abs(weight);
    }
    return std::abs(total) <= 1e-12 * magnitude;
}

}  // namespace aimerge
