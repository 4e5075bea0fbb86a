#include "aimerge/merge/relaxation.h"

#include "aimerge/architecture/parameter_name.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/importance.h"
#include "merge/row_runs.h"
#include "merge/vectorised.h"

namespace aimerge {
namespace {

constexpr const char* kHeadModule = "lm_head";

template <DeltaRounding kRounding>
void relaxRun(const float* factors, const float* base, const float* merged, float* out, std::size_t count) {
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) out[i] = relaxElement<kRounding>(base[i], merged[i], factors[i]);
    });
}

template <DeltaRounding kRounding>
void relaxElements(const float* importance, float restraint, const float* base, const float* merged, float* out,
                   std::size_t count) {
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i)
            out[i] = relaxElement<kRounding>(base[i], merged[i], 1.0f - importance[i] * restraint);
    });
}

}  // namespace

std::string relaxedModule(const std::string& tensor, const Shape& shape, const AimConfig& aim,
                          const StatisticsByModule& statistics, bool headIsWritten) {
    const std::string module(moduleOfWeight(tensor));
    if (module.empty()) return {};
    const Part part = placeOf(tensor).part;
    if (part == Part::Embedding && aim.relaxTiedHead && !headIsWritten) return kHeadModule;
    if (module.find("embed") != std::string::npos) return {};
    if (shape.empty() || (shape.size() == 1 && aim.scope == AimScope::Linear)) return {};
    // What no decoder layer owns is relaxed when it was measured; the decoder's own weights must have been.
    return part == Part::Other && !statistics.contains(module) ? std::string{} : module;
}

std::optional<std::vector<float>> importanceOf(const std::string& tensor, const Shape& shape, const AimConfig& aim,
                                               const StatisticsByModule& statistics, bool headIsWritten) {
    const std::string module = relaxedModule(tensor, shape, aim, statistics, headIsWritten);
    if (module.empty()) return std::nullopt;
    const auto found = statistics.find(module);
    if (found == statistics.end())
        throw InputError(
            "the statistics have no module '{}', by whose activations {} is to be relaxed; were they taken on another "
            "model?",
            module, tensor);
    const std::vector<float>& statistic = found->second.values(aim.statistic);
    if (static_cast<std::int64_t>(statistic.size()) != shape.back())
        throw InputError(
            "the statistics of module '{}' have {} channels, {} has {} (shape {}); they were taken on another model", module,
            statistic.size(), tensor, shape.back(), shapeText(shape));
    return importanceOfModule(module, statistics, aim);
}

Relaxation::Relaxation(std::span<const float> importance, double omega, DeltaRounding rounding)
    : Relaxation(omega, rounding) {
    for (const float a : importance) factors_.push_back(1.0f - a * restraint_);
}

Relaxation::Relaxation(double omega, DeltaRounding rounding)
    : restraint_(static_cast<float>(1 - omega)), rounding_(rounding) {}

Relaxation Relaxation::uniform(float factor, std::size_t channels, DeltaRounding rounding) {
    Relaxation relaxation(0, rounding);
    relaxation.factors_.assign(channels, factor);
    return relaxation;
}

void Relaxation::applyElements(std::span<const float> base, std::span<const float> merged, std::span<const float> importance,
                               std::span<float> out) const {
    const auto relax =
        rounding_ == DeltaRounding::None ? relaxElements<DeltaRounding::None> : relaxElements<DeltaRounding::Bfloat16>;
    relax(importance.data(), restraint_, base.data(), merged.data(), out.data(), out.size());
}

void Relaxation::apply(std::int64_t first, std::span<const float> base, std::span<const float> merged,
                       std::span<float> out) const {
    const auto relax = rounding_ == DeltaRounding::None ? relaxRun<DeltaRounding::None> : relaxRun<DeltaRounding::Bfloat16>;
    forEachRowRun(first, out.size(), static_cast<std::int64_t>(factors_.size()),
                  [&](std::int64_t, std::int64_t channel, std::size_t offset, std::size_t count) {
                      relax(factors_.data() + channel, base.data() + offset, merged.data() + offset, out.data() + offset,
                            count);
                  });
}

}  // namespace aimerge
