#include "aimerge/merge/della.h"

#include "merge/inner_products.h"
#include "merge/kept_magnitude.h"
#include "merge/key_bracket.h"
#include "merge/random_words.h"
#include "merge/rank_sampling.h"
#include "merge/row_runs.h"
#include "merge/task_vector_combine.h"

#include <fmt/format.h>

#include <algorithm>

namespace aimerge {
namespace {

enum DellaParameter { kEpsilon = kFirstOwn, kRescaleMode };

/// Which elements of one input stay: a bit each, every row from a word of its own; or, where each has its own factor, those.
struct Sample {
    bool isAll = true;
    float scale = 1;
    std::vector<std::uint64_t> bits;
    std::vector<float> factors;
};

constexpr std::int64_t kBitsPerWord = 64;

std::int64_t wordsPerRow(std::int64_t columns) {
    return (columns + kBitsPerWord - 1) / kBitsPerWord;
}

class PreparedDella : public PreparedParameter {
public:
    PreparedDella(Addition addition, const ResolvedParameters& values, std::vector<Sample> samples, std::int64_t columns)
        : addition_(addition, values), samples_(std::move(samples)), columns_(columns) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        std::vector<float> expanded(samples_.size() * out.size());
        std::vector<const float*> perInput(samples_.size());
        for (std::size_t i = 0; i < samples_.size(); ++i) {
            if (!samples_[i].factors.empty()) {
                perInput[i] = samples_[i].factors.data() + first;
                continue;
            }
            const std::span<float> factors(expanded.data() + i * out.size(), out.size());
            expand(samples_[i], first, factors);
            perInput[i] = factors.data();
        }
        const auto makeTrim = [&](auto number) {
            constexpr int kInputs = decltype(number)::value;
            return ScaleEach<kInputs>{PerInput<const float*, kInputs>::from(perInput.data())};
        };
        addition_.combine<ScaleEach>(makeTrim, base, inputs, out);
    }

    std::uint64_t heldBytes() const override {
        std::uint64_t bytes = 0;
        for (const Sample& sample : samples_)
            bytes += sample.bits.size() * sizeof(std::uint64_t) + sample.factors.size() * sizeof(float);
        return bytes;
    }

private:
    void expand(const Sample& sample, std::int64_t first, std::span<float> factors) const {
        if (sample.isAll) return std::fill(factors.begin(), factors.end(), 1.0f);
        forEachRowRun(first, factors.size(), columns_,
                      [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                          const std::uint64_t* const bits = sample.bits.data() + row * wordsPerRow(columns_);
                          expandBits(bits, static_cast<std::size_t>(column), sample.scale, factors.subspan(offset, count));
                      });
    }

    static void expandBits(const std::uint64_t* bits, std::size_t firstBit, float scale, std::span<float> factors) {
        float* const to = factors.data();
        const std::size_t count = factors.size();
        const std::uint32_t kept = bitsOfFloat(scale);
        vectorised([=]() AIMERGE_INLINE_BODY {
            constexpr std::size_t kHalf = 32;  // a vector's lanes take their bits from one 32-bit word
            for (std::size_t i = 0; i < count;) {
                const std::size_t bit = firstBit + i, at = bit % kHalf, run = std::min(kHalf - at, count - i);
                const auto word = static_cast<std::uint32_t>(bits[bit / 64] >> (bit % 64 - at));
                for (std::size_t k = 0; k < run; ++k)
                    to[i + k] = floatOfBits(selectBits((word >> (at + k) & 1u) != 0, kept, 0u));
                i += run;
            }
        });
    }

    TaskVectorAddition addition_;
    std::vector<Sample> samples_;
    std::int64_t columns_;
};

/// The prepare pass: samples row by row, every thread its own rows.
class Sampling {
public:
    Sampling(ParameterReader& parameter, const ResolvedParameters& values)
        : parameter_(parameter),
          values_(values),
          matrix_(MatrixShape::of(parameter.shape(), Along::Rows)),
          samples_(parameter.inputs()),
          rows_(static_cast<std::size_t>(parameter.threads().threads())) {}

    std::vector<Sample> run() {
        rescales_ = values_.shared[kRescale] != 0;
        mode_ = static_cast<RescaleMode>(values_.shared[kRescaleMode]);
        for (std::size_t i = 0; i < samples_.size(); ++i) prepareInput(i);
        if (trimmed_.empty()) return std::move(samples_);

        // About a span of elements each; the sums of a block are added up in order.
        const std::int64_t rows = std::max<std::int64_t>(1, ParameterReader::kSpanElements / matrix_.columns);
        const auto blocks = static_cast<std::size_t>((matrix_.rows + rows - 1) / rows);
        sums_.assign(trimmed_.size(), std::vector<MagnitudeSums>(blocks));
        parameter_.threads().forEach(blocks, [&](std::size_t block, int worker) {
            const std::int64_t begin = static_cast<std::int64_t>(block) * rows;
            sampleRows(block, begin, std::min(matrix_.rows, begin + rows), worker);
        });
        for (std::size_t i = 0; i < trimmed_.size(); ++i)
            if (rescales_ && mode_ == RescaleMode::L1)
                samples_[trimmed_[i]].scale = static_cast<float>(rescaleFactor(sums_[i]));
        return std::move(samples_);
    }

private:
    /// A thread's row of one input.
    struct Row {
        std::vector<std::vector<std::uint32_t>> keys;  // per trimmed input
        std::vector<std::uint32_t> kept, ranks;
        RankSampler sampler;
        RandomWords words;
    };

    void prepareInput(std::size_t i) {
        const double density = values_.perInput[kDensity][i];
        if (density >= 1) return;
        trimmed_.push_back(i);
        bounds_.emplace_back(density, values_.perInput[kEpsilon][i], static_cast<std::size_t>(matrix_.columns));
        streams_.push_back(elementStream(values_.seed, parameter_.name(), i));
        samples_[i].isAll = false;
        if (rescales_ && mode_ == RescaleMode::InverseDensity)
            samples_[i].factors.resize(static_cast<std::size_t>(parameter_.elements()));
        else
            samples_[i].bits.resize(static_cast<std::size_t>(matrix_.rows * wordsPerRow(matrix_.columns)));
    }

    void sampleRows(std::size_t block, std::int64_t begin, std::int64_t end, int worker) {
        Row& place = rows_[static_cast<std::size_t>(worker)];
        const auto columns = static_cast<std::size_t>(matrix_.columns);
        place.keys.resize(trimmed_.size());
        for (auto& keys : place.keys) keys.resize(columns);
        place.kept.resize(columns);
        const auto collect = [&](const ParameterChunk& chunk) {
            forEachRowRun(chunk.first, chunk.count, matrix_.columns,
                          [&](std::int64_t row, std::int64_t column, std::size_t offset, std::size_t count) {
                              for (std::size_t i = 0; i < trimmed_.size(); ++i)
                                  keysOf(chunk.base + offset, chunk.inputs[trimmed_[i]] + offset, count,
                                         place.keys[i].data() + column);
                              if (column + static_cast<std::int64_t>(count) < matrix_.columns) return;
                              for (std::size_t i = 0; i < trimmed_.size(); ++i) sampleRow(i, row, place, sums_[i][block]);
                          });
        };
        parameter_.visit(begin * matrix_.columns, (end - begin) * matrix_.columns, trimmed_, worker, collect);
    }

    void sampleRow(std::size_t i, std::int64_t row, Row& place, MagnitudeSums& sums) {
        const std::vector<std::uint32_t>& keys = place.keys[i];
        const std::uint32_t* const words = place.words.fill(streams_[i], row * matrix_.columns, keys.size());
        place.sampler.sample(keys, words, bounds_[i], place.kept);
        Sample& sample = samples_[trimmed_[i]];
        if (!sample.factors.empty()) return storeFactors(i, row, place, sample);
        storeBits(place.kept, sample.bits.data() + row * wordsPerRow(matrix_.columns));
        if (rescales_) addMagnitudes(keys, place.kept, sums);
    }

    void storeFactors(std::size_t i, std::int64_t row, Row& place, Sample& sample) const {
        place.ranks.resize(place.kept.size());
        place.sampler.ranks(place.keys[i], place.ranks);
        float* const to = sample.factors.data() + row * matrix_.columns;
        for (std::size_t e = 0; e < place.kept.size(); ++e)
            to[e] = place.kept[e] != 0 ? static_cast<float>(1 / bounds_[i].probability(place.ranks[e])) : 0.0f;
    }

    static void storeBits(const std::vector<std::uint32_t>& kept, std::uint64_t* words) {
        for (std::size_t begin = 0; begin < kept.size(); begin += kBitsPerWord) {
            std::uint64_t word = 0;
            for (std::size_t e = begin; e < std::min<std::size_t>(kept.size(), begin + kBitsPerWord); ++e)
                word |= std::uint64_t{kept[e]} << (e - begin);
            words[begin / kBitsPerWord] = word;
        }
    }

    static void addMagnitudes(const std::vector<std::uint32_t>& keys, const std::vector<std::uint32_t>& kept,
                              MagnitudeSums& sums) {
        const std::uint32_t *const key = keys.data(), *const keep = kept.data();
        const std::size_t count = keys.size();
        MagnitudeSums* const to = &sums;
        vectorised([=]() AIMERGE_INLINE_BODY {
            forEachLane(count, 0, [&](std::size_t i, std::size_t lane) AIMERGE_INLINE_BODY {
                to->all[lane] += floatOfBits(key[i]);
                to->kept[lane] += floatOfBits(selectBits(keep[i] != 0, key[i], 0u));
            });
        });
    }

    ParameterReader& parameter_;
    const ResolvedParameters& values_;
    MatrixShape matrix_;
    bool rescales_ = false;
    RescaleMode mode_ = RescaleMode::L1;
    std::vector<Sample> samples_;
    std::vector<std::size_t> trimmed_;  // inputs of which not everything is kept; what follows has one per such input
    std::vector<RankBounds> bounds_;
    std::vector<RandomStream> streams_;
    std::vector<std::vector<MagnitudeSums>> sums_;  // per block of rows
    std::vector<Row> rows_;                         // per worker
};

class Della : public Method {
public:
    Della(Addition addition, std::string name, std::string description) : addition_(addition) {
        info_.name = std::move(name);
        info_.description = std::move(description);
        info_.paper = "Deep et al. 2024, DELLA-Merging, arXiv 2406.11617";
        info_.parameters =
            taskVectorParameters({.normalize = addition == Addition::Consensus, .rescale = true},
                                 {{.name = "epsilon",
                                   .type = ParameterType::Number,
                                   .scope = ParameterScope::PerNonBase,
                                   .fallback = 0.15,
                                   .description = "half the width of the range of keep probabilities around density",
                                   .minimum = 0},
                                  rescaleModeParameter()});
        info_.isRandom = true;
    }

    const MethodInfo& info() const override { return info_; }

    std::optional<ParameterProblem> check(const ResolvedParameters& values) const override {
        for (std::size_t i = 0; i < values.perInput[kDensity].size(); ++i) {
            const double density = values.perInput[kDensity][i], epsilon = values.perInput[kEpsilon][i];
            if (density >= 1 || (density + epsilon < 1 && density - epsilon > 0)) continue;
            return ParameterProblem{
                kDensity, i,
                fmt::format("density {} and epsilon {} give keep probabilities from {:g} to {:g}; they must "
                            "lie between 0 and 1",
                            density, epsilon, density - epsilon, density + epsilon)};
        }
        return std::nullopt;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedDella>(addition_, values, Sampling(parameter, values).run(),
                                               MatrixShape::of(parameter.shape(), Along::Rows).columns);
    }

    /// What PreparedDella holds.
    std::uint64_t workingBytes(const std::string&, const Shape& shape, const ResolvedParameters& values) const override {
        const MatrixShape matrix = MatrixShape::of(shape, Along::Rows);
        const bool holdsFactors = values.shared[kRescale] != 0 &&
                                  static_cast<RescaleMode>(values.shared[kRescaleMode]) == RescaleMode::InverseDensity;
        const std::int64_t rowBytes = holdsFactors ? matrix.columns * std::int64_t{sizeof(float)}
                                                   : wordsPerRow(matrix.columns) * std::int64_t{sizeof(std::uint64_t)};
        const auto trimmed = std::ranges::count_if(values.perInput[kDensity], [](double density) { return density < 1; });
        return static_cast<std::uint64_t>(trimmed * matrix.rows * rowBytes);
    }

private:
    Addition addition_;
    MethodInfo info_;
};

}  // namespace

const Method& dellaMethod() {
    static const Della method(Addition::Consensus, "della",
                              "Drops changes at random, small ones sooner, keeps what agrees with the elected sign");
    return method;
}

const Method& dellaLinearMethod() {
    static const Della method(Addition::Sum, "della_linear", "Drops changes at random, small ones sooner, adds up the rest");
    return method;
}

}  // namespace aimerge
