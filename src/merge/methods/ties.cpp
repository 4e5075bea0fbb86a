#include "merge/methods/ties.h"

#include "merge/combine/trimmed_change.h"
#include "merge/combine/whole_change.h"
#include "merge/selection/selection.h"

#include <algorithm>

namespace aimerge {
namespace {

/// Floor of the product as float64 has it, as mergekit does: 0.29 * 100 gives 28.
std::int64_t keptElements(double density, std::int64_t elements) {
    if (density == 0) return 0;
    return std::max(std::int64_t{1}, static_cast<std::int64_t>(density * static_cast<double>(elements)));
}

class Ties : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{
            .name = "ties",
            .description = "Trims the experts' changes, elects a sign per element, averages what agrees with it",
            .paper = "Yadav et al. 2023, TIES-Merging, arXiv 2306.01708",
            .base = BaseUse::Required,
            .minInputs = 1,
            .parameters = taskVectorParameters({.normalize = true, .rescale = false})};
        return info;
    }

    bool passesOver(const ResolvedParameters& values) const override {
        return std::ranges::any_of(values.perInput[kDensity], [](double density) { return density < 1; });
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::int64_t elements = parameter.elements();
        std::vector<SelectionRequest> requests;
        std::vector<std::size_t> trimmed;
        std::vector<KeptRange> kept(parameter.inputs());
        for (std::size_t i = 0; i < parameter.inputs(); ++i) {
            const double density = values.perInput[kDensity][i];
            const std::int64_t keep = keptElements(density, elements);
            if (density >= 1 || keep >= elements) continue;
            trimmed.push_back(i);
            if (keep > 0)
                requests.push_back({i, keep});
            else
                kept[i] = KeptRange::none();
        }
        if (trimmed.empty()) return wholeChange(Addition::Consensus, values);

        if (!requests.empty()) {
            const std::vector<MagnitudeCut> cuts = selectLargest(parameter, requests);
            for (std::size_t i = 0; i < requests.size(); ++i) kept[requests[i].input] = KeptRange::from(cuts[i]);
        }
        return std::make_unique<TrimmedChange<KeepFrom>>(Addition::Consensus, parameter, values, std::move(kept), trimmed);
    }
};

}  // namespace

const Method& tiesMethod() {
    static const Ties method;
    return method;
}

}  // namespace aimerge
