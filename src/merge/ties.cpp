#include "aimerge/merge/ties.h"

#include "aimerge/merge/selection.h"
#include "merge/trimmed_change.h"
#include "merge/whole_change.h"

#include <algorithm>

namespace aimerge {
namespace {

/// Floor of the product as float64 has it, as mergekit does: 0.29 * 100 gives 28.
std::int64_t keptElements(double density, std::int64_t elements) {
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

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::int64_t elements = parameter.elements();
        std::vector<SelectionRequest> requests;
        std::vector<std::size_t> trimmed;
        for (std::size_t i = 0; i < parameter.inputs(); ++i) {
            const double density = values.perInput[kDensity][i];
            const std::int64_t keep = keptElements(density, elements);
            if (density >= 1 || keep >= elements) continue;
            requests.push_back({i, keep});
            trimmed.push_back(i);
        }
        if (trimmed.empty()) return wholeChange(Addition::Consensus, values);

        std::vector<KeptRange> kept(parameter.inputs());
        const std::vector<MagnitudeCut> cuts = selectLargest(parameter, requests);
        for (std::size_t i = 0; i < trimmed.size(); ++i) kept[trimmed[i]] = KeptRange::from(cuts[i]);
        return std::make_unique<TrimmedChange<KeepFrom>>(Addition::Consensus, parameter, values, std::move(kept), trimmed);
    }
};

}  // namespace

const Method& tiesMethod() {
    static const Ties method;
    return method;
}

}  // namespace aimerge
