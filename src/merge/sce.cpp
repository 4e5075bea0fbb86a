#include "aimerge/merge/sce.h"

#include "aimerge/merge/selection.h"
#include "merge/derived_reader.h"
#include "merge/kept_range.h"
#include "merge/lanes.h"
#include "merge/walked_parameter.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

namespace aimerge {
namespace {

enum SceParameter { kSelectTopk };

void variancesOf(const ParameterChunk& chunk, float* out) {
    withInputCount(chunk.inputs.size(), [&](auto count) {
        constexpr int kInputs = decltype(count)::value;
        const auto pointers = PerInput<const float*, kInputs>::from(chunk.inputs.data());
        const int number = static_cast<int>(chunk.inputs.size());
        const float* const base = chunk.base;
        const std::size_t elements = chunk.count;
        vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
            for (std::size_t i = 0; i < elements; ++i)
                out[i] = varianceOfChanges(base[i], InputsAt<kInputs>{pointers, i, i, number});
        });
    });
}

/// How many of the chunk's variances are not zero. Equal changes have none, and changes that lie 2^-60 apart have one that
/// float32 holds: where some lie between, variances decide.
std::int64_t countVarying(const ParameterChunk& chunk) {
    struct Counts {
        std::uint32_t varying = 0, close = 0;
    } counts;
    withInputCount(chunk.inputs.size(), [&](auto inputCount) {
        constexpr int kInputs = decltype(inputCount)::value;
        const auto pointers = PerInput<const float*, kInputs>::from(chunk.inputs.data());
        const int number = static_cast<int>(chunk.inputs.size());
        const float* const base = chunk.base;
        const std::size_t elements = chunk.count;
        counts = vectorised([=]() AIMERGE_INLINE_BODY {
            Counts sums;
            for (std::size_t i = 0; i < elements; ++i) {
                const InputsAt<kInputs> theta{pointers, i, i, number};
                float least = theta[0] - base[i], most = least;
                for (int input = 1; input < theta.count(); ++input) {
                    const float change = theta[input] - base[i];
                    least = change < least ? change : least;
                    most = change > most ? change : most;
                }
                sums.varying += most != least;
                sums.close += most != least && most - least < 0x1p-60f;
            }
            return sums;
        });
    });
    if (counts.close == 0) return counts.varying;
    std::vector<float> variances(chunk.count);
    variancesOf(chunk, variances.data());
    return std::ranges::count_if(variances, [](float variance) { return variance != 0; });
}

/// @param variances of the elements; null: all are kept
void addSquares(const float* base, const float* input, const float* variances, std::uint32_t leastKept, std::size_t count,
                std::size_t firstLane, Lanes& lanes) {
    const auto addAll = [&](auto isKept) {
        const auto square = [=](std::size_t i) AIMERGE_INLINE_BODY {
            const std::uint32_t delta = bitsOfFloat(input[i] - base[i]);
            const double kept = static_cast<double>(floatOfBits(selectBits(isKept(i), delta, 0u)));
            return kept * kept;
        };
        addToLanes(count, firstLane, square, lanes);
    };
    if (variances == nullptr) return addAll([](std::size_t) AIMERGE_INLINE_BODY { return true; });
    addAll([=](std::size_t i) AIMERGE_INLINE_BODY { return bitsOfFloat(variances[i]) >= leastKept; });
}

std::int64_t countVarying(ParameterReader& parameter) {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(parameter.threads().threads()));
    parameter.visitAll(parameter.allInputs(), [&](const ParameterChunk& chunk) {
        counts[static_cast<std::size_t>(chunk.worker)] += countVarying(chunk);
    });
    return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

/// Which variances stay; nullopt: none.
std::optional<MagnitudeCut> select(ParameterReader& parameter, double topk) {
    // The product as mergekit takes it, in float32: of 45088769 elements a tenth is 4508877, in float64 4508876.
    const float product = static_cast<float>(countVarying(parameter)) * static_cast<float>(topk);
    const std::int64_t keep = std::min(static_cast<std::int64_t>(product), parameter.elements());
    if (keep <= 0) return std::nullopt;
    const SelectionRequest request{0, keep};
    DerivedReader variances(parameter, variancesOf);
    return selectLargest(variances, {&request, 1}).front();
}

/// W_i. @param cut nullopt: all elements stay
std::vector<float> weightsOf(ParameterReader& parameter, const std::optional<MagnitudeCut>& cut) {
    const std::vector<std::size_t> inputs = parameter.allInputs();
    const std::array kept{cut ? KeptRange::from(*cut) : KeptRange::all()};
    std::vector<Lanes> sums(parameter.spans() * inputs.size());
    std::vector<std::vector<float>> places(static_cast<std::size_t>(parameter.threads().threads()));
    parameter.visitAll(inputs, [&](const ParameterChunk& chunk) {
        std::vector<float>& variances = places[static_cast<std::size_t>(chunk.worker)];
        if (cut) {
            if (variances.size() < chunk.count) variances.resize(chunk.count);
            variancesOf(chunk, variances.data());
        }
        const auto addPart = [&](std::size_t offset, std::size_t count, std::uint32_t leastKept) {
            const std::size_t lane = (static_cast<std::size_t>(chunk.first) + offset) % kLanes;
            for (const std::size_t i : inputs)
                addSquares(chunk.base + offset, chunk.inputs[i] + offset, cut ? variances.data() + offset : nullptr,
                           leastKept, count, lane, sums[chunk.span * inputs.size() + i]);
        };
        forEachUniformRun(kept, chunk.first, chunk.count,
                          [&](const MagnitudeBits& bits, std::size_t offset, std::size_t count) {
                              addPart(offset, count, bits.least[0]);
                          });
    });

    std::vector<double> means(inputs.size());
    for (std::size_t span = 0; span < parameter.spans(); ++span) {
        for (const std::size_t i : inputs) means[i] += sumOf(sums[span * inputs.size() + i]);
    }
    for (double& mean : means) mean /= static_cast<double>(parameter.elements());
    const double total = std::accumulate(means.begin(), means.end(), 0.0);
    std::vector<float> weights(inputs.size());
    for (const std::size_t i : inputs)
        weights[i] = static_cast<float>(total < 1e-6 ? 1.0 / static_cast<double>(inputs.size()) : means[i] / total);
    return weights;
}

/// Nothing was selected.
class PreparedBase : public PreparedParameter {
public:
    void combine(std::int64_t /*first*/, const float* base, std::span<const float* const> /*inputs*/,
                 std::span<float> out) const override {
        std::copy_n(base, out.size(), out.begin());
    }
};

class PreparedSce : public WalkedParameter<PreparedSce> {
public:
    PreparedSce(std::vector<float> weights, const std::optional<MagnitudeCut>& cut)
        : weights_(std::move(weights)), cut_(cut) {}

    template <typename Tile>
    void walk(std::int64_t first, const Tile& tile) const {
        if (!cut_) return walkPart<Selected::All>(0, tile);
        const std::array kept{KeptRange::from(*cut_)};
        forEachUniformRun(kept, first, tile.count, [&](const MagnitudeBits& bits, std::size_t offset, std::size_t count) {
            withPart(tile, offset, count, [&](const Tile& part) { walkPart<Selected::ByVariance>(bits.least[0], part); });
        });
    }

private:
    template <Selected kSelected, typename Tile>
    void walkPart(std::uint32_t leastKept, const Tile& tile) const {
        withInputCount(tile.inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            const SceCombine<kInputs, kSelected> kernel{PerInput<float, kInputs>::from(weights_.data()), leastKept};
            forEachElement<kInputs>(kernel, tile);
        });
    }

    std::vector<float> weights_;
    std::optional<MagnitudeCut> cut_;
};

class Sce : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{
            .name = "sce",
            .description = "Selects elements by variance, weights experts by their squared changes, elects a sign",
            .paper = "Wan et al. 2024, FuseChat, arXiv 2408.07990",
            .base = BaseUse::Required,
            .minInputs = 1,
            .parameters = {{.name = "select_topk",
                            .type = ParameterType::Number,
                            .scope = ParameterScope::Shared,
                            .fallback = 1.0,
                            .description = "share of the elements that differ between experts that is merged",
                            .minimum = 0,
                            .maximum = 1},
                           {.name = "int8_mask",
                            .type = ParameterType::Boolean,
                            .scope = ParameterScope::Shared,
                            .fallback = 0.0,
                            .description = "accepted for mergekit's sake; no effect"}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        std::optional<MagnitudeCut> cut;
        if (values.shared[kSelectTopk] < 1) {
            cut = select(parameter, values.shared[kSelectTopk]);
            if (!cut) return std::make_unique<PreparedBase>();
        }
        return std::make_unique<PreparedSce>(weightsOf(parameter, cut), cut);
    }
};

}  // namespace

const Method& sceMethod() {
    static const Sce method;
    return method;
}

}  // namespace aimerge
