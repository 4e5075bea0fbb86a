#include "aimerge/merge/relaxation.h"

#include "merge/combine/vectorised.h"
#include "merge/sources/row_runs.h"

namespace aimerge {
namespace {

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

ChannelLayout ChannelLayout::of(const Shape& shape, int inputAxis) {
    const std::int64_t elements = elementCount(shape);
    if (inputAxis == -1) return {.channels = shape.back(), .matrixElements = elements};
    return {.channels = shape[shape.size() - 2], .stride = shape.back(), .matrixElements = elements};
}

RelaxedBy relaxedBy(const Architecture& architecture, const std::string& tensor, const Shape& shape, const AimConfig& aim,
                    const StatisticsByModule& statistics, bool headIsWritten) {
    const Parameter parameter = architecture.describe(tensor, shape);
    const auto by = [&](const std::string& module) {
        return RelaxedBy{statistics.contains(module) ? Treatment::Relaxed : Treatment::Unmeasured, module};
    };
    switch (parameter.role) {
        case Role::Embedding:
            if (aim.relaxTiedHead && !headIsWritten && tensor == architecture.embedding())
                return by(std::string(moduleOf(architecture.head())));
            return {};
        case Role::Norm:
            return aim.scope == AimScope::Linear ? RelaxedBy{} : by(parameter.module);
        case Role::Linear:
        case Role::Router:
        case Role::Experts:
        case Role::Head:
            return by(parameter.module);
        case Role::Lookup:
        case Role::Convolution:
        case Role::Bias:
        case Role::Buffer:
        case Role::Other:
            break;
    }
    return {};
}

Relaxation::Relaxation(const ChannelImportance& importance, double omega, DeltaRounding rounding)
    : Relaxation(omega, rounding) {
    layout_ = importance.layout;
    factors_.reserve(importance.values.size());
    for (const float a : importance.values) factors_.push_back(1.0f - a * restraint_);
}

Relaxation::Relaxation(double omega, DeltaRounding rounding)
    : restraint_(static_cast<float>(1 - omega)), rounding_(rounding) {}

Relaxation Relaxation::uniform(std::span<const float> ofMatrices, const ChannelLayout& layout, DeltaRounding rounding) {
    Relaxation relaxation(0, rounding);
    relaxation.layout_ = layout;
    for (const float factor : ofMatrices)
        relaxation.factors_.insert(relaxation.factors_.end(), static_cast<std::size_t>(layout.channels), factor);
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
    const auto relaxFrom = [&](const float* factors, std::size_t offset, std::size_t count) {
        relax(factors, base.data() + offset, merged.data() + offset, out.data() + offset, count);
    };
    forEachRowRun(first, out.size(), layout_.matrixElements,
                  [&](std::int64_t matrix, std::int64_t begin, std::size_t before, std::size_t size) {
                      const float* const own = factors_.data() + matrix * layout_.channels;
                      if (layout_.stride == 1) {
                          forEachRowRun(begin, size, layout_.channels,
                                        [&](std::int64_t, std::int64_t channel, std::size_t offset, std::size_t count) {
                                            relaxFrom(own + channel, before + offset, count);
                                        });
                          return;
                      }
                      // All elements of a run are of one channel.
                      std::vector<float> same;
                      forEachRowRun(begin, size, layout_.stride,
                                    [&](std::int64_t run, std::int64_t, std::size_t offset, std::size_t count) {
                                        same.assign(count, own[run % layout_.channels]);
                                        relaxFrom(same.data(), before + offset, count);
                                    });
                  });
}

}  // namespace aimerge
