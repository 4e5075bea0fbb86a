#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "merge/methods/arcee_fusion.h"
#include "merge/methods/breadcrumbs.h"
#include "merge/methods/closed_form.h"
#include "merge/methods/dare.h"
#include "merge/methods/della.h"
#include "merge/methods/fisher.h"
#include "merge/methods/karcher.h"
#include "merge/methods/linear.h"
#include "merge/methods/model_stock.h"
#include "merge/methods/multislerp.h"
#include "merge/methods/nearswap.h"
#include "merge/methods/nuslerp.h"
#include "merge/methods/passthrough.h"
#include "merge/methods/ram.h"
#include "merge/methods/sce.h"
#include "merge/methods/slerp.h"
#include "merge/methods/task_arithmetic.h"
#include "merge/methods/ties.h"
#include "merge/methods/widen.h"

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
    // A line each, so that a new method changes one line.
    // clang-format off
    static const std::vector<const Method*> all{
        &linearMethod(),
        &taskArithmeticMethod(),
        &tiesMethod(),
        &dareLinearMethod(),
        &dareTiesMethod(),
        &breadcrumbsMethod(),
        &breadcrumbsTiesMethod(),
        &dellaMethod(),
        &dellaLinearMethod(),
        &slerpMethod(),
        &nuslerpMethod(),
        &multislerpMethod(),
        &karcherMethod(),
        &modelStockMethod(),
        &sceMethod(),
        &ramMethod(),
        &ramPlusMethod(),
        &nearswapMethod(),
        &arceeFusionMethod(),
        &widenMethod(),
        &fisherMethod(),
        &regMeanMethod(),
        &actMatMethod(),
        &wudiMethod(),
        &passthroughMethod(),
    };
    // clang-format on
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
