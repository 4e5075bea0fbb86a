#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/merge/arcee_fusion.h"
#include "aimerge/merge/breadcrumbs.h"
#include "aimerge/merge/closed_form.h"
#include "aimerge/merge/dare.h"
#include "aimerge/merge/della.h"
#include "aimerge/merge/fisher.h"
#include "aimerge/merge/karcher.h"
#include "aimerge/merge/linear.h"
#include "aimerge/merge/model_stock.h"
#include "aimerge/merge/multislerp.h"
#include "aimerge/merge/nearswap.h"
#include "aimerge/merge/nuslerp.h"
#include "aimerge/merge/passthrough.h"
#include "aimerge/merge/ram.h"
#include "aimerge/merge/sce.h"
#include "aimerge/merge/slerp.h"
#include "aimerge/merge/task_arithmetic.h"
#include "aimerge/merge/ties.h"
#include "aimerge/merge/widen.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace aimerge {

std::optional<ParameterProblem> Method::check(const ResolvedParameters&) const {
    return std::nullopt;
}

std::uint64_t Method::workingBytes(Role, const Shape&, const ResolvedParameters&) const {
    return 0;
}

const std::vector<const Method*>& methods() {
    static const std::vector<const Method*> all{
        &linearMethod(),      &taskArithmeticMethod(),  &tiesMethod(),     &dareLinearMethod(),  &dareTiesMethod(),
        &breadcrumbsMethod(), &breadcrumbsTiesMethod(), &dellaMethod(),    &dellaLinearMethod(), &slerpMethod(),
        &nuslerpMethod(),     &multislerpMethod(),      &karcherMethod(),  &modelStockMethod(),  &sceMethod(),
        &ramMethod(),         &ramPlusMethod(),         &nearswapMethod(), &arceeFusionMethod(), &widenMethod(),
        &fisherMethod(),      &regMeanMethod(),         &actMatMethod(),   &wudiMethod(),        &passthroughMethod()};
    return all;
}

const Method& findMethod(const std::string& name, const SourceMark& mark) {
    std::vector<std::string> names;
    for (const Method* method : methods()) {
        if (method->info().name == name) return *method;
        names.push_back(method->info().name);
    }
    const std::string nearest = nearestName(name, names);
    const std::string hint =
        nearest.empty() ? fmt::format("there are {}", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", nearest);
    throw UsageError("{}: there is no merge method '{}'; {}", mark.text(), name, hint);
}

}  // namespace aimerge
