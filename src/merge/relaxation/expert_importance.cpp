#include "merge/relaxation/expert_importance.h"

#include "aimerge/core/error.h"
#include "merge/relaxation/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace aimerge {
namespace {

/// What was measured of one expert's input.
struct Measured {
    std::span<const float> values;  // of the statistic
    std::int64_t tokens = 0;
};

Measured rowOf(const ModuleStatistics& module, std::int64_t expert, Statistic statistic) {
    const std::vector<float>& all = module.values(statistic);
    if (!module.isFused()) return {all, module.tokens};
    const std::size_t channels = module.channels(), row = static_cast<std::size_t>(expert);
    return {std::span(all).subspan(row * channels, channels), module.expertTokens[row]};
}

/// The mean of two means, weighted; of root mean squares by way of the squares.
float blended(Statistic statistic, double a, double weightOfA, double b, double weightOfB) {
    const bool isRoot = statistic == Statistic::Rms || statistic == Statistic::Wanda;
    if (isRoot) a *= a, b *= b;
    const double mean = (weightOfA * a + weightOfB * b) / (weightOfA + weightOfB);
    return static_cast<float>(isRoot ? std::sqrt(mean) : mean);
}

/// The experts of a tensor's layer and kind.
class ExpertsOfLayer {
public:
    ExpertsOfLayer(const Architecture& architecture, const Parameter& parameter, const AimConfig& aim,
                   const StatisticsByModule& statistics)
        : architecture_(architecture), module_(parameter.module), aim_(aim), statistics_(statistics) {
        if (!statistics.at(module_).isFused()) {
            // Named one by one: the same module of every expert.
            const std::string number = std::to_string(parameter.expert) + ".";
            const std::size_t at = module_.find("experts." + number) + std::string_view("experts.").size();
            before_ = module_.substr(0, at);
            behind_ = module_.substr(at + number.size() - 1);
        }
        if (architecture.isMixture() && !parameter.hasExpertsOwnInput) findBlock();
    }

    /// The statistic by which an expert's channels are held back: its own, its own blended with its block's, or where nobody
    /// has seen its channels the others' mean.
    std::vector<float> values(std::int64_t expert) const {
        const Measured own = rowOf(statistics_.at(nameOf(expert)), expert, aim_.statistic);
        if (!block_.empty() && own.tokens + aim_.expertPriorTokens > 0) return withBlock(own);
        if (own.tokens > 0) return {own.values.begin(), own.values.end()};
        return meanOfOthers(
            [](std::int64_t, std::span<const float> values) { return std::vector<float>(values.begin(), values.end()); });
    }

    /// @param name by which the control Shuffled deals out
    std::vector<float> importance(std::int64_t expert, const std::string& name) const {
        const bool isUnseen = rowOf(statistics_.at(nameOf(expert)), expert, aim_.statistic).tokens == 0;
        if (isUnseen && (block_.empty() || aim_.expertPriorTokens == 0)) {
            // Dealt out once, as its own: a mean of what was dealt out in many ways would be
            // nearly the same on all channels.
            const bool isShuffled = aim_.control == AimControl::Shuffled;
            AimConfig ordered = aim_;
            if (isShuffled) ordered.control = AimControl::None;
            const std::vector<float> mean = meanOfOthers([&](std::int64_t other, std::span<const float> values) {
                return importanceOfModule(architecture_, nameOf(other), {values.begin(), values.end()}, statistics_,
                                          ordered);
            });
            return isShuffled ? shuffled(mean, aim_.calibration.seed, name) : mean;
        }
        return importanceOfModule(architecture_, name, values(expert), statistics_, aim_);
    }

private:
    std::string nameOf(std::int64_t expert) const {
        return before_.empty() ? module_ : before_ + std::to_string(expert) + behind_;
    }

    /// What was measured of all experts.
    std::vector<Measured> all() const {
        std::vector<Measured> experts;
        const ModuleStatistics* const fused = before_.empty() ? &statistics_.at(module_) : nullptr;
        for (std::int64_t expert = 0; fused == nullptr || expert < fused->experts; ++expert) {
            const auto found = statistics_.find(nameOf(expert));
            if (found == statistics_.end()) break;
            experts.push_back(rowOf(found->second, expert, aim_.statistic));
        }
        return experts;
    }

    /// The block's own input is the router's. Where that was not measured, or is not on the experts' scale, it is the mean
    /// over the experts' tokens: every token comes to as many experts as any other.
    void findBlock() {
        const auto router = statistics_.find(architecture_.routerOf(module_));
        if (router != statistics_.end()) {
            block_ = router->second.values(aim_.statistic);
            return;
        }
        std::int64_t tokens = 0;
        for (const Measured& expert : all()) {
            if (expert.tokens == 0) continue;
            if (block_.empty()) block_.resize(expert.values.size());
            for (std::size_t c = 0; c < block_.size(); ++c)
                block_[c] = blended(aim_.statistic, block_[c], static_cast<double>(tokens), expert.values[c],
                                    static_cast<double>(expert.tokens));
            tokens += expert.tokens;
        }
    }

    std::vector<float> withBlock(const Measured& own) const {
        if (block_.size() != own.values.size())
            throw InputError(
                "the statistics of module '{}' have {} channels, those of its router {}; give the log of this model, or "
                "record it again",
                module_, own.values.size(), block_.size());
        std::vector<float> values(block_.size());
        for (std::size_t c = 0; c < values.size(); ++c)
            values[c] = blended(aim_.statistic, own.values[c], static_cast<double>(own.tokens), block_[c],
                                static_cast<double>(aim_.expertPriorTokens));
        return values;
    }

    /// The mean of something over the experts that have seen tokens; zeros where none has.
    template <typename OfExpert>
    std::vector<float> meanOfOthers(const OfExpert& of) const {
        const std::vector<Measured> experts = all();
        std::vector<double> sums(experts.front().values.size());
        std::size_t others = 0;
        for (std::size_t expert = 0; expert < experts.size(); ++expert) {
            if (experts[expert].tokens == 0) continue;
            const std::vector<float> values = of(static_cast<std::int64_t>(expert), experts[expert].values);
            for (std::size_t c = 0; c < sums.size(); ++c) sums[c] += static_cast<double>(values[c]);
            ++others;
        }
        std::vector<float> mean(sums.size());
        for (std::size_t c = 0; c < mean.size(); ++c)
            if (others > 0) mean[c] = static_cast<float>(sums[c] / static_cast<double>(others));
        return mean;
    }

    const Architecture& architecture_;
    std::string module_, before_, behind_;
    const AimConfig& aim_;
    const StatisticsByModule& statistics_;
    std::vector<float> block_;  // of the block's own input; empty: not of use, or not known
};

}  // namespace

namespace {

/// The matrices of a tensor of experts, or of heads, each with channels of its own.
std::vector<MatrixPart> matricesOf(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                                   const Parameter& parameter) {
    if (parameter.role != Role::Experts) return {{parameter.module, parameter.expert, 0, shape}};
    std::vector<MatrixPart> matrices = architecture.partsOf(tensor, shape);
    for (std::int64_t head = 0; std::cmp_less(matrices.size(), shape[0]); ++head)
        matrices.push_back({fmt::format("{}[{}]", tensor, head), head, 0, {shape[1], shape[2]}});
    return matrices;
}

}  // namespace

ChannelImportance importanceOfExperts(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                                      const Parameter& parameter, const AimConfig& aim,
                                      const StatisticsByModule& statistics) {
    const ModuleStatistics& own = statistics.at(parameter.module);
    if (own.isFused() && own.experts != shape[0])
        throw InputError(
            "the statistics of module '{}' have {} experts, {} has {}; give the log of this model, or record it again",
            parameter.module, own.experts, tensor, shape[0]);
    const ExpertsOfLayer experts(architecture, parameter, aim, statistics);
    const std::vector<MatrixPart> matrices = matricesOf(architecture, tensor, shape, parameter);
    ChannelImportance result{{}, ChannelLayout::of(matrices.front().shape, own.inputAxis)};
    result.layout.matrices = static_cast<std::int64_t>(matrices.size());
    for (const MatrixPart& matrix : matrices) {
        const std::vector<float> a = experts.importance(matrix.expert, std::string(moduleOf(matrix.name)));
        result.values.insert(result.values.end(), a.begin(), a.end());
    }
    return result;
}

std::vector<float> inputStatistic(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                                  const std::string& module, const AimConfig& aim, const StatisticsByModule& statistics) {
    const Parameter parameter = architecture.describe(tensor, shape);
    if (parameter.role != Role::Experts && parameter.expert < 0) return statistics.at(module).values(aim.statistic);
    const ExpertsOfLayer experts(architecture, parameter, aim, statistics);
    std::vector<float> all;
    for (const MatrixPart& matrix : matricesOf(architecture, tensor, shape, parameter)) {
        const std::vector<float> values = experts.values(matrix.expert);
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

void requireStatisticOf(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                        const std::string& module, const ModuleStatistics& statistics) {
    const Parameter parameter = architecture.describe(tensor, shape);
    const bool isMatrix = parameter.role != Role::Norm;
    if (isMatrix && parameter.inputAxisIsKnown && statistics.inputAxis != parameter.inputAxis)
        throw InputError(
            "the statistics of module '{}' say that the input of {} is axis {} from the end, but it is {}; record them "
            "again",
            module, tensor, statistics.inputAxis, parameter.inputAxis);
    const std::int64_t channels =
        isMatrix ? shape[shape.size() + static_cast<std::size_t>(statistics.inputAxis)] : elementCount(shape);
    // A norm with a weight per head may have been measured over the heads, or head by head.
    const bool isOfHead = !isMatrix && std::cmp_equal(statistics.channels(), shape.back());
    if (std::cmp_not_equal(statistics.channels(), channels) && !isOfHead)
        throw InputError(
            "the statistics of module '{}' have {} channels, {} has {} (shape {}); give the log of this model, or record it "
            "again",
            module, statistics.channels(), tensor, channels, shapeText(shape));
    if (statistics.isFused() != (parameter.role == Role::Experts))
        throw InputError("the statistics of module '{}' are those of {}, but {} is {}; record the statistics on this folder",
                         module, statistics.isFused() ? "fused experts" : "one matrix", tensor,
                         statistics.isFused() ? "one matrix" : "fused experts");
}

std::optional<ChannelImportance> importanceOf(const Architecture& architecture, const std::string& tensor,
                                              const Shape& shape, const AimConfig& aim, const StatisticsByModule& statistics,
                                              bool headIsWritten) {
    const RelaxedBy by = relaxedBy(architecture, tensor, shape, aim, statistics, headIsWritten);
    if (by.treatment != Treatment::Relaxed) return std::nullopt;
    const Parameter parameter = architecture.describe(tensor, shape);
    const ModuleStatistics& own = statistics.at(by.module);
    requireStatisticOf(architecture, tensor, shape, by.module, own);
    if (parameter.role == Role::Experts || parameter.expert >= 0)
        return importanceOfExperts(architecture, tensor, shape, parameter, aim, statistics);
    ChannelImportance result{importanceOfModule(architecture, by.module, own.values(aim.statistic), statistics, aim), {}};
    result.layout = parameter.role != Role::Norm ? ChannelLayout::of(shape, own.inputAxis)
                                                 : ChannelLayout{.channels = static_cast<std::int64_t>(own.channels()),
                                                                 .matrixElements = elementCount(shape)};
    return result;
}

}  // namespace aimerge
