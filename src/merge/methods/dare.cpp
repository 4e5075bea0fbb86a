#include "merge/methods/dare.h"

#include "merge/combine/sampled_change.h"
#include "merge/combine/whole_change.h"
#include "merge/selection/element_draws.h"
#include "merge/selection/kept_draws.h"
#include "merge/selection/kept_magnitude.h"

#include <algorithm>

namespace aimerge {
namespace {

enum DareParameter { kRescaleMode = kFirstOwn };

/// Draws the elements of one input, spans shared out over the threads.
void sample(ParameterReader& parameter, const RandomStream& stream, double density, std::vector<std::uint32_t>& bits) {
    const auto elements = static_cast<std::size_t>(parameter.elements());
    bits.resize(keptBitWords(elements));
    if (density == 0) return;  // none is kept
    const std::uint32_t bound = keepBound(density);
    constexpr auto kSpan = static_cast<std::size_t>(ParameterReader::kSpanElements);
    static_assert(kSpan % kPlaneElements == 0);
    parameter.threads().forEach(parameter.spans(), [&](std::size_t span, int) {
        const std::size_t first = span * kSpan;
        drawKept(stream, first, std::min(kSpan, elements - first), bound, bits.data() + keptBitWords(first));
    });
}

class Dare : public Method {
public:
    Dare(Addition addition, std::string name, std::string description) : addition_(addition) {
        info_.name = std::move(name);
        info_.description = std::move(description);
        info_.paper = "Yu et al. 2024, Language models are super Mario, arXiv 2311.03099";
        info_.parameters = taskVectorParameters({.normalize = false, .rescale = true}, {rescaleModeParameter()});
        info_.isRandom = true;
    }

    const MethodInfo& info() const override { return info_; }

    bool passesOver(const ResolvedParameters& values) const override {
        return rescalesToL1(values) && !trimmedInputs(values).empty();
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const bool rescales = values.shared[kRescale] != 0;
        const auto mode = static_cast<RescaleMode>(values.shared[kRescaleMode]);
        const std::vector<std::size_t> trimmed = trimmedInputs(values);
        if (trimmed.empty()) return wholeChange(addition_, values);

        std::vector<Sample> samples(parameter.inputs());
        for (const std::size_t i : trimmed) {
            const double density = values.perInput[kDensity][i];
            samples[i].isAll = false;
            sample(parameter, elementStream(values.seed, parameter.name(), i), density, samples[i].bits);
            if (rescales && mode == RescaleMode::InverseDensity && density > 0)
                samples[i].scale = static_cast<float>(1 / density);
        }
        if (rescalesToL1(values)) rescaleToL1(parameter, trimmed, samples);
        return std::make_unique<SampledChange>(addition_, values, std::move(samples), parameter.elements());
    }

    /// What SampledChange holds.
    std::uint64_t workingBytes(Role, const Shape& shape, const ResolvedParameters& values) const override {
        return trimmedInputs(values).size() * keptBitWords(static_cast<std::size_t>(elementCount(shape))) *
               sizeof(std::uint32_t);
    }

private:
    static bool rescalesToL1(const ResolvedParameters& values) {
        return values.shared[kRescale] != 0 && static_cast<RescaleMode>(values.shared[kRescaleMode]) == RescaleMode::L1;
    }

    static void rescaleToL1(ParameterReader& parameter, const std::vector<std::size_t>& trimmed,
                            std::vector<Sample>& samples) {
        std::vector<std::vector<MagnitudeSums>> sums(trimmed.size(), std::vector<MagnitudeSums>(parameter.spans()));
        parameter.visitAll(trimmed, [&](const ParameterChunk& chunk) {
            for (std::size_t i = 0; i < trimmed.size(); ++i)
                addSampledMagnitudes(chunk.count, static_cast<std::size_t>(chunk.first),
                                     ChangeMagnitude{chunk.base, chunk.inputs[trimmed[i]]}, samples[trimmed[i]].bits.data(),
                                     sums[i][chunk.span]);
        });
        for (std::size_t i = 0; i < trimmed.size(); ++i)
            samples[trimmed[i]].scale = static_cast<float>(rescaleFactor(sums[i]));
    }

    Addition addition_;
    MethodInfo info_;
};

}  // namespace

const Method& dareLinearMethod() {
    static const Dare method(Addition::Sum, "dare_linear", "Drops changes at random, rescales and adds up the rest");
    return method;
}

const Method& dareTiesMethod() {
    static const Dare method(Addition::Consensus, "dare_ties",
                             "Drops changes at random, rescales, keeps what agrees with the elected sign");
    return method;
}

}  // namespace aimerge
