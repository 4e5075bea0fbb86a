#include "aimerge/merge/dare.h"

#include "merge/element_draws.h"
#include "merge/kept_draws.h"
#include "merge/kept_magnitude.h"
#include "merge/sampled_change.h"

#include <algorithm>

namespace aimerge {
namespace {

enum DareParameter { kRescaleMode = kFirstOwn };

/// Elements that are looked at together: they stay in the first cache.
constexpr std::size_t kTile = 4 * kBitGroup;

/// Draws the elements of one input, spans shared out over the threads.
void sample(ParameterReader& parameter, const RandomStream& stream, double density, std::vector<std::uint32_t>& bits) {
    const std::uint32_t bound = keepBound(density);
    const auto elements = static_cast<std::size_t>(parameter.elements());
    bits.resize(keptBitWords(elements));
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

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const bool rescales = values.shared[kRescale] != 0;
        const auto mode = static_cast<RescaleMode>(values.shared[kRescaleMode]);
        std::vector<Sample> samples(parameter.inputs());
        std::vector<std::size_t> trimmed;
        for (std::size_t i = 0; i < samples.size(); ++i) {
            const double density = values.perInput[kDensity][i];
            if (density >= 1) continue;
            trimmed.push_back(i);
            samples[i].isAll = false;
            sample(parameter, elementStream(values.seed, parameter.name(), i), density, samples[i].bits);
            if (rescales && mode == RescaleMode::InverseDensity) samples[i].scale = static_cast<float>(1 / density);
        }
        if (rescales && mode == RescaleMode::L1 && !trimmed.empty()) rescaleToL1(parameter, trimmed, samples);
        return std::make_unique<SampledChange>(addition_, values, std::move(samples), parameter.elements());
    }

    /// What SampledChange holds.
    std::uint64_t workingBytes(const std::string&, const Shape& shape, const ResolvedParameters& values) const override {
        const auto trimmed = std::ranges::count_if(values.perInput[kDensity], [](double density) { return density < 1; });
        return static_cast<std::uint64_t>(trimmed) * keptBitWords(static_cast<std::size_t>(elementCount(shape))) *
               sizeof(std::uint32_t);
    }

private:
    static void rescaleToL1(ParameterReader& parameter, const std::vector<std::size_t>& trimmed,
                            std::vector<Sample>& samples) {
        std::vector<std::vector<MagnitudeSums>> sums(trimmed.size(), std::vector<MagnitudeSums>(parameter.spans()));
        std::vector<std::vector<float>> factors(static_cast<std::size_t>(parameter.threads().threads()),
                                                std::vector<float>(kTile));
        parameter.visitAll(trimmed, [&](const ParameterChunk& chunk) {
            float* const kept = factors[static_cast<std::size_t>(chunk.worker)].data();
            for (std::size_t offset = 0; offset < chunk.count; offset += kTile) {
                const std::size_t count = std::min(kTile, chunk.count - offset);
                const std::size_t first = static_cast<std::size_t>(chunk.first) + offset;
                for (std::size_t i = 0; i < trimmed.size(); ++i) {
                    expandKeptBits(samples[trimmed[i]].bits.data(), first, 1.0f, {kept, count});
                    const ChangeMagnitude magnitude{chunk.base + offset, chunk.inputs[trimmed[i]] + offset};
                    addMagnitudes(count, first % kLanes, magnitude, Sampled{magnitude, kept}, sums[i][chunk.span]);
                }
            }
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
