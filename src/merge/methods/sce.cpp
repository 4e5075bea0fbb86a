#include "merge/methods/sce.h"

#include "merge/combine/walked_parameter.h"
#include "merge/selection/derived_reader.h"
#include "merge/selection/kept_range.h"
#include "merge/selection/lanes.h"
#include "merge/selection/selection.h"

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

/// Which variances stay, and a bound of the sum of the W_i before they are divided by it.
struct Selection {
    MagnitudeCut cut;
    double mostTotal;
};

/// k is a product of float32, as mergekit has it: of 45088769 elements that vary a tenth is 4508877, in float64 4508876.
Selection select(ParameterReader& parameter, double topk) {
    std::vector<Lanes> squares(static_cast<std::size_t>(parameter.threads().threads()));
    const auto derive = [&](const ParameterChunk& chunk, float* out) {
        variancesOf(chunk, out);
        for (const float* const input : chunk.inputs)
            addSquares(chunk.base, input, nullptr, 0, chunk.count, 0, squares[static_cast<std::size_t>(chunk.worker)]);
    };
    const SelectionRequest request{.input = 0, .ofNonzero = static_cast<float>(topk)};
    DerivedReader variances(parameter, derive);
    const MagnitudeCut cut = selectLargest(variances, {&request, 1}).front();
    // Some elements were seen more than once, and in any order.
    const double total = std::accumulate(squares.begin(), squares.end(), 0.0,
                                         [](double sum, const Lanes& lanes) { return sum + sumOf(lanes); });
    return {cut, total / static_cast<double>(parameter.elements()) * (1 + 1e-9)};
}

/// W_i of changes whose mean squares add up to less than this are all the same.
constexpr double kLeastTotal = 1e-6;

std::vector<float> equalWeights(std::size_t inputs) {
    return std::vector<float>(inputs, static_cast<float>(1.0 / static_cast<double>(inputs)));
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
    if (total < kLeastTotal) return equalWeights(inputs.size());
    std::vector<float> weights(inputs.size());
    for (const std::size_t i : inputs) weights[i] = static_cast<float>(means[i] / total);
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
                            .description = "accepted for mergekit's sake; no effect",
                            .hasNoEffect = true}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const double topk = values.shared[kSelectTopk];
        if (topk >= 1) return std::make_unique<PreparedSce>(weightsOf(parameter, std::nullopt), std::nullopt);
        const Selection selected = select(parameter, topk);
        if (selected.cut == MagnitudeCut::keepNone()) return std::make_unique<PreparedBase>();
        return std::make_unique<PreparedSce>(
            selected.mostTotal < kLeastTotal ? equalWeights(parameter.inputs()) : weightsOf(parameter, selected.cut),
            selected.cut);
    }
};

}  // namespace

const Method& sceMethod() {
    static const Sce method;
    return method;
}

}  // namespace aimerge
