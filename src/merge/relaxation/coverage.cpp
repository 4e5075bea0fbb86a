#include "aimerge/merge/coverage.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/relaxation.h"
#include "aimerge/merge/tensor_assembly.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

bool isMatrix(Role role) {
    return role == Role::Linear || role == Role::Router || role == Role::Experts || role == Role::Head;
}

/// What tensors of a role are called that AIM leaves as they were merged.
std::string kindOf(Role role) {
    switch (role) {
        case Role::Embedding:
            return "embedding";
        case Role::Lookup:
            return "lookup tables";
        case Role::Convolution:
            return "convolutions";
        case Role::Bias:
            return "biases";
        case Role::Norm:
            return "norms";
        case Role::Buffer:
            return "buffers";
        default:
            return "other tensors";
    }
}

/// Tokens of every expert of a module that one expert's own inputs enter: each expert once.
void countExperts(const ModuleStatistics& statistics, Coverage& coverage) {
    const auto count = [&](std::int64_t tokens) {
        ++coverage.experts;
        coverage.expertsWithFewTokens += tokens < coverage.fewTokens;
        coverage.expertsWithoutTokens += tokens == 0;
    };
    if (!statistics.isFused()) return count(statistics.tokens);
    for (const std::int64_t tokens : statistics.expertTokens) count(tokens);
}

}  // namespace

Coverage coverageOf(const ModelSet& models, std::span<const MatchedTensor> tensors, const AimConfig& aim,
                    const StatisticsByModule& statistics) {
    Coverage coverage;
    coverage.fewTokens = aim.expertPriorTokens;
    const bool headIsWritten = models.headIsWritten();
    std::map<std::size_t, Coverage::Count> stacks;  // matrices
    for (const MatchedTensor& tensor : tensors) {
        if (tensor.action != MatchedTensor::Action::Merge) continue;
        const std::string name = nameInBase(models, tensor);
        const Shape& shape = tensor.inputs[models.slices[tensor.slice].referenceInput()].tensor->shape;
        const RelaxedBy by = relaxedBy(models.output, name, shape, aim, statistics, headIsWritten);
        const Parameter& parameter = tensor.parameter;
        const std::optional<double> own = tensorOmega(aim, tensor);
        const bool isAsMerged =
            own ? *own == 1
                : !aim.omegas.empty() && std::ranges::all_of(aim.omegas, [](double omega) { return omega == 1; });
        if (by.treatment == Treatment::OfAnotherKind) {
            ++coverage.kept[kindOf(parameter.role)];
            continue;
        }
        Coverage::Count& count = parameter.role == Role::Norm ? coverage.norms : coverage.matrices;
        ++count.all;
        if (isAsMerged) {
            ++coverage.asMerged;
            continue;
        }
        const bool isRelaxed = by.treatment == Treatment::Relaxed;
        count.relaxed += isRelaxed;
        if (!isRelaxed) coverage.unmeasured.push_back(tensor.name);
        // What is yet to be measured has no values.
        if (isRelaxed && statistics.at(by.module).channels() > 0)
            requireStatisticOf(models.output, name, shape, by.module, statistics.at(by.module));
        if (isMatrix(parameter.role) && parameter.place.part == Part::Layer) {
            Coverage::Count& stack = stacks[parameter.place.stack];
            ++stack.all;
            stack.relaxed += isRelaxed;
        }
        const bool isOfExperts = parameter.role == Role::Experts || parameter.expert >= 0;
        if (isRelaxed && isOfExperts && parameter.hasExpertsOwnInput) countExperts(statistics.at(by.module), coverage);
    }
    for (const auto& [stack, count] : stacks)
        if (count.relaxed == 0)
            coverage.uncovered.push_back(
                fmt::format("{} ({}N)", models.output.stacks()[stack].name, models.output.stacks()[stack].prefix));
    return coverage;
}

std::string Coverage::text() const {
    std::string text = fmt::format("relaxed {} of {} matrices and {} of {} norms", matrices.relaxed, matrices.all,
                                   norms.relaxed, norms.all);
    std::vector<std::string> kinds;
    for (const auto& [kind, count] : kept)
        kinds.push_back(kind == "embedding" && count == 1 ? kind : fmt::format("{} {}", count, kind));
    if (!unmeasured.empty()) kinds.push_back(fmt::format("{} without a statistic", unmeasured.size()));
    if (asMerged > 0) kinds.push_back(fmt::format("{} with omega 1", asMerged));
    if (!kinds.empty()) text += fmt::format("; kept their merged value: {}", fmt::join(kinds, ", "));
    if (experts > 0)
        text += fmt::format("; {} of {} experts saw fewer than {} tokens, {} none", expertsWithFewTokens, experts, fewTokens,
                            expertsWithoutTokens);
    return text;
}

nlohmann::ordered_json Coverage::json() const {
    const auto countJson = [](const Count& count) {
        return nlohmann::ordered_json{{"relaxed", count.relaxed}, {"all", count.all}};
    };
    nlohmann::ordered_json json{{"matrices", countJson(matrices)},
                                {"norms", countJson(norms)},
                                {"kept", kept},
                                {"omega_1", asMerged},
                                {"unmeasured", unmeasured}};
    if (experts > 0)
        json["experts"] = {{"all", experts}, {"few_tokens", expertsWithFewTokens}, {"no_tokens", expertsWithoutTokens}};
    return json;
}

void Coverage::warn() const {
    if (unmeasured.empty()) return;
    constexpr std::size_t kNamed = 4;
    const std::vector<std::string> first(
        unmeasured.begin(), unmeasured.begin() + static_cast<std::ptrdiff_t>(std::min(kNamed, unmeasured.size())));
    spdlog::warn("{} tensors have no statistic and keep their merged value: {}{}", unmeasured.size(), fmt::join(first, ", "),
                 unmeasured.size() > kNamed ? ", ..." : "");
}

void Coverage::requireStacks() const {
    if (uncovered.empty()) return;
    throw InputError(
        "the statistics have none of the matrices of the {0}: nothing of it would be relaxed. Record statistics of this "
        "model that go through it "
        "(src/tools/record_statistics.py, with --images for images), or say that its changes are kept: omega 1 by a filter "
        "of its names "
        "(aim.omega: [{{filter: NAME, value: 1}}, {{value: ...}}])",
        fmt::join(uncovered, ", "));
}

StatisticsByModule modulesToMeasure(const Checkpoint& base) {
    StatisticsByModule modules;
    for (const TensorInfo& tensor : base.tensors()) {
        const Parameter parameter = base.architecture().describe(tensor);
        if (isMatrix(parameter.role) || parameter.role == Role::Norm) modules[parameter.module];
    }
    if (!base.architecture().head().empty()) modules[std::string(moduleOf(base.architecture().head()))];
    return modules;
}

}  // namespace aimerge
