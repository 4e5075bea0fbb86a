#include "aimerge/merge/dare.h"

#include "merge/kept_magnitude.h"
#include "merge/random_words.h"
#include "merge/task_vector_combine.h"

#include <algorithm>

namespace aimerge {
namespace {

enum DareParameter { kRescaleMode = kFirstOwn };

/// Which elements of one input stay.
struct Draw {
    RandomStream stream;
    std::uint32_t bound;  // keepBound(density); everything is kept when the density is 1
    bool isAll;
    float scale = 1;  // of what is kept
};

class PreparedDare : public PreparedParameter {
public:
    PreparedDare(Addition addition, const ResolvedParameters& values, std::vector<Draw> draws)
        : addition_(addition, values), draws_(std::move(draws)) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        std::vector<float> factors(draws_.size() * out.size());
        std::vector<const float*> perInput(draws_.size());
        RandomWords words;
        for (std::size_t i = 0; i < draws_.size(); ++i) {
            float* const to = factors.data() + i * out.size();
            fillFactors(draws_[i], first, words, {to, out.size()});
            perInput[i] = to;
        }
        const auto makeTrim = [&](auto number) {
            constexpr int kInputs = decltype(number)::value;
            return ScaleEach<kInputs>{PerInput<const float*, kInputs>::from(perInput.data())};
        };
        addition_.combine<ScaleEach>(makeTrim, base, inputs, out);
    }

private:
    static void fillFactors(const Draw& draw, std::int64_t first, RandomWords& words, std::span<float> factors) {
        if (draw.isAll) return std::fill(factors.begin(), factors.end(), 1.0f);
        const std::uint32_t* const word = words.fill(draw.stream, first, factors.size());
        float* const to = factors.data();
        const std::size_t count = factors.size();
        const std::uint32_t bound = draw.bound, scale = bitsOfFloat(draw.scale);
        vectorised([=]() AIMERGE_INLINE_BODY {
            for (std::size_t i = 0; i < count; ++i) to[i] = floatOfBits(selectBits(word[i] >> 8 < bound, scale, 0u));
        });
    }

    TaskVectorAddition addition_;
    std::vector<Draw> draws_;
};

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
        std::vector<Draw> draws;
        std::vector<std::size_t> trimmed;
        for (std::size_t i = 0; i < parameter.inputs(); ++i) {
            const double density = values.perInput[kDensity][i];
            draws.push_back({elementStream(values.seed, parameter.name(), i), keepBound(density), density >= 1});
            if (density >= 1) continue;
            trimmed.push_back(i);
            if (rescales && mode == RescaleMode::InverseDensity) draws[i].scale = static_cast<float>(1 / density);
        }
        if (rescales && mode == RescaleMode::L1 && !trimmed.empty()) rescaleToL1(parameter, trimmed, draws);
        return std::make_unique<PreparedDare>(addition_, values, std::move(draws));
    }

private:
    static void rescaleToL1(ParameterReader& parameter, const std::vector<std::size_t>& trimmed, std::vector<Draw>& draws) {
        std::vector<std::vector<MagnitudeSums>> sums(trimmed.size(), std::vector<MagnitudeSums>(parameter.spans()));
        std::vector<RandomWords> words(static_cast<std::size_t>(parameter.threads().threads()));
        parameter.visitAll(trimmed, [&](const ParameterChunk& chunk) {
            for (std::size_t i = 0; i < trimmed.size(); ++i) {
                const Draw& draw = draws[trimmed[i]];
                const std::uint32_t* const word =
                    words[static_cast<std::size_t>(chunk.worker)].fill(draw.stream, chunk.first, chunk.count);
                const std::uint32_t bound = draw.bound;
                addMagnitudes(
                    chunk.base, chunk.inputs[trimmed[i]], chunk.count, static_cast<std::size_t>(chunk.first) % kLanes,
                    [=](std::size_t e, std::uint32_t) AIMERGE_INLINE_BODY { return word[e] >> 8 < bound; },
                    sums[i][chunk.span]);
            }
        });
        for (std::size_t i = 0; i < trimmed.size(); ++i)
            draws[trimmed[i]].scale = static_cast<float>(rescaleFactor(sums[i]));
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
