#pragma once
// Which points of a sweep a run is to make.

#include "aimerge/experiment/sweep_config.h"

#include <map>
#include <string>
#include <vector>

namespace aimerge {

/// Conditions as --only writes them: "method=ties,omega=0.4,combination=code+math", "density=0.2"; values of one key are
/// alternatives.
class PointFilter {
public:
    /// @throws UsageError naming the condition
    explicit PointFilter(const std::vector<std::string>& conditions, const std::vector<std::string>& gridKeys = {});

    /// Base and experts always pass.
    bool passes(const SweepPoint& point) const;

private:
    std::vector<std::string> methods_, combinations_;
    std::vector<double> omegas_;
    std::map<std::string, std::vector<std::string>> grid_;
};

}  // namespace aimerge
