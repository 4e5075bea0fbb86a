#include "merge/methods/breadcrumbs.h"

#include "merge/combine/trimmed_change.h"
#include "merge/combine/whole_change.h"

#include <algorithm>

namespace aimerge {
namespace {

enum BreadcrumbsParameter { kGamma = kFirstOwn };

/// How many of the largest elements go, and how many of the largest stay or go as such: the kept ones lie between.
struct Ranks {
    std::int64_t dropped, reached;
};

Ranks ranksOf(double density, double gamma, std::int64_t elements) {
    const auto count = static_cast<double>(elements);
    const auto kept = static_cast<std::int64_t>(density * count), outliers = static_cast<std::int64_t>(gamma * count);
    const std::int64_t bottom = std::max<std::int64_t>(0, elements - kept - outliers);
    return {elements - bottom - kept, elements - bottom};
}

class Breadcrumbs : public Method {
public:
    Breadcrumbs(Addition addition, std::string name, std::string description) : addition_(addition) {
        info_.name = std::move(name);
        info_.description = std::move(description);
        info_.paper = "Davari and Belilovsky 2023, Model breadcrumbs, arXiv 2312.06795";
        info_.parameters = taskVectorParameters({.normalize = false, .rescale = false},
                                                {{.name = "gamma",
                                                  .type = ParameterType::Number,
                                                  .scope = ParameterScope::PerNonBase,
                                                  .fallback = 0.01,
                                                  .description = "share of the largest changes that is dropped",
                                                  .minimum = 0,
                                                  .maximum = 1,
                                                  .maximumExcluded = true}});
    }

    const MethodInfo& info() const override { return info_; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::vector<std::size_t> trimmed = trimmedInputs(values);
        if (trimmed.empty()) return wholeChange(addition_, values);

        std::vector<KeptRange> kept(parameter.inputs());
        std::vector<SelectionRequest> requests;
        std::vector<MagnitudeCut*> cuts;  // one per request
        const auto request = [&](std::size_t input, std::int64_t rank, MagnitudeCut& cut) {
            if (rank == 0 || rank == parameter.elements()) return;
            requests.push_back({input, rank});
            cuts.push_back(&cut);
        };
        for (const std::size_t i : trimmed) {
            const Ranks ranks = ranksOf(values.perInput[kDensity][i], values.perInput[kGamma][i], parameter.elements());
            if (ranks.dropped == ranks.reached) {
                kept[i] = KeptRange::none();
                continue;
            }
            request(i, ranks.reached, kept[i].least);
            request(i, ranks.dropped, kept[i].dropped);
        }
        if (!requests.empty()) {
            const std::vector<MagnitudeCut> found = selectLargest(parameter, requests);
            for (std::size_t i = 0; i < found.size(); ++i) *cuts[i] = found[i];
        }
        return std::make_unique<TrimmedChange<KeepBetween>>(addition_, parameter, values, std::move(kept), trimmed);
    }

private:
    Addition addition_;
    MethodInfo info_;
};

}  // namespace

const Method& breadcrumbsMethod() {
    static const Breadcrumbs method(Addition::Sum, "breadcrumbs",
                                    "Drops the largest and the smallest of each expert's changes, adds up the rest");
    return method;
}

const Method& breadcrumbsTiesMethod() {
    static const Breadcrumbs method(Addition::Consensus, "breadcrumbs_ties",
                                    "Drops the largest and the smallest changes, keeps what agrees with the elected sign");
    return method;
}

}  // namespace aimerge
