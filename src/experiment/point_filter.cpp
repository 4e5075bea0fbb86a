#include "aimerge/experiment/point_filter.h"

#include "aimerge/core/error.h"
#include "experiment/sweep_grid.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

namespace aimerge {

PointFilter::PointFilter(const std::vector<std::string>& conditions, const std::vector<std::string>& gridKeys) {
    for (const std::string& list : conditions) {
        for (std::size_t begin = 0; begin <= list.size();) {
            const std::size_t end = std::min(list.find(',', begin), list.size());
            const std::string condition = list.substr(begin, end - begin);
            begin = end + 1;
            const std::size_t sign = condition.find('=');
            const std::string key = condition.substr(0, sign),
                              value = sign == std::string::npos ? "" : condition.substr(sign + 1);
            const bool isOfGrid = std::ranges::find(gridKeys, key) != gridKeys.end();
            if (value.empty() || (!isOfGrid && key != "method" && key != "combination" && key != "omega"))
                throw UsageError("--only {}: expected method=, combination={} omega= with a value{}", condition,
                                 gridKeys.empty() ? " or" : ",",
                                 gridKeys.empty() ? "" : fmt::format(", or of the grid {}=", fmt::join(gridKeys, "=, ")));
            if (key == "method") methods_.push_back(value);
            if (key == "combination") combinations_.push_back(value);
            if (isOfGrid) grid_[key].push_back(gridText(value));
            if (key != "omega") continue;
            char* rest = nullptr;
            omegas_.push_back(std::strtod(value.c_str(), &rest));
            if (*rest != '\0') throw UsageError("--only {}: {} is no number", condition, value);
        }
    }
}

bool PointFilter::passes(const SweepPoint& point) const {
    if (point.kind != PointKind::Merged) return true;
    const auto allows = [](const auto& list, const auto& value) {
        return list.empty() || std::ranges::find(list, value) != list.end();
    };
    for (const auto& [key, values] : grid_) {
        const std::string* const value = point.gridValue(key);
        if (!value || !allows(values, *value)) return false;
    }
    return allows(methods_, point.method) && allows(combinations_, point.combination) && allows(omegas_, *point.omega);
}

}  // namespace aimerge
