#include "merge/methods/della.h"

#include "merge/algebra/inner_products.h"
#include "merge/combine/sampled_change.h"
#include "merge/combine/whole_change.h"
#include "merge/selection/element_draws.h"
#include "merge/selection/kept_magnitude.h"
#include "merge/selection/key_bracket.h"
#include "merge/selection/rank_sampling.h"
#include "merge/sources/row_runs.h"

#include <fmt/format.h>

#include <algorithm>

namespace aimerge {
namespace {

enum DellaParameter { kEpsilon = kFirstOwn, kRescaleMode };

/// The prepare pass: samples row by row, every thread its own rows.
class Sampling {
public:
    Sampling(ParameterReader& parameter, const ResolvedParameters& values)
        : parameter_(parameter),
          values_(values),
          matrix_(MatrixShape::of(parameter.shape(), Along::Rows)),
          rowWords_(keptBitWords(static_cast<std::size_t>(matrix_.columns))),
          samples_(parameter.inputs()),
          rows_(static_cast<std::size_t>(parameter.threads().threads())) {}

    std::vector<Sample> run() {
        rescales_ = values_.shared[kRescale] != 0;
        mode_ = static_cast<RescaleMode>(values_.shared[kRescaleMode]);
        for (const std::size_t i : trimmedInputs(values_)) prepareInput(i);

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
        std::vector<std::uint32_t> bits;               // where the sample has none
        std::vector<DoubleRank> ranks;
        RankSampler sampler;
        UpperDraws draws;
    };

    void prepareInput(std::size_t i) {
        samples_[i].isAll = false;
        if (values_.perInput[kDensity][i] == 0) {  // none is kept
            samples_[i].bits.resize(static_cast<std::size_t>(matrix_.rows) * rowWords_);
            return;
        }
        trimmed_.push_back(i);
        bounds_.emplace_back(values_.perInput[kDensity][i], values_.perInput[kEpsilon][i],
                             static_cast<std::size_t>(matrix_.columns));
        streams_.push_back(elementStream(values_.seed, parameter_.name(), i));
        if (rescales_ && mode_ == RescaleMode::InverseDensity)
            samples_[i].factors.resize(static_cast<std::size_t>(parameter_.elements()));
        else
            samples_[i].bits.resize(static_cast<std::size_t>(matrix_.rows) * rowWords_);
    }

    void sampleRows(std::size_t block, std::int64_t begin, std::int64_t end, int worker) {
        Row& place = rows_[static_cast<std::size_t>(worker)];
        const auto columns = static_cast<std::size_t>(matrix_.columns);
        place.keys.resize(trimmed_.size());
        for (auto& keys : place.keys) keys.resize(columns);
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
        const std::int64_t first = row * matrix_.columns;
        const std::uint16_t* const draws = place.draws.fill(streams_[i], first, keys.size());
        Sample& sample = samples_[trimmed_[i]];
        place.bits.resize(rowWords_);
        const bool wantsFactors = !sample.factors.empty();
        std::uint32_t* const bits =
            wantsFactors ? place.bits.data() : sample.bits.data() + static_cast<std::size_t>(row) * rowWords_;
        place.sampler.sample(keys, bounds_[i], streams_[i], static_cast<std::uint64_t>(first), draws, bits);
        if (wantsFactors) return storeFactors(i, row, place, sample);
        if (!rescales_) return;

        const auto magnitude = [key = keys.data()](std::size_t e) AIMERGE_INLINE_BODY { return key[e]; };
        addSampledMagnitudes(keys.size(), 0, magnitude, bits, sums);
    }

    void storeFactors(std::size_t i, std::int64_t row, Row& place, Sample& sample) const {
        const std::vector<std::uint32_t>& keys = place.keys[i];
        place.ranks.resize(keys.size());
        place.sampler.ranks(keys, place.ranks);
        float* const to = sample.factors.data() + row * matrix_.columns;
        for (std::size_t e = 0; e < keys.size(); ++e) {
            const bool isKept = (place.bits[keptBitWord(e)] & keptBit(e)) != 0;
            to[e] = isKept ? static_cast<float>(1 / bounds_[i].probability(place.ranks[e])) : 0.0f;
        }
    }

    ParameterReader& parameter_;
    const ResolvedParameters& values_;
    MatrixShape matrix_;
    std::size_t rowWords_;
    bool rescales_ = false;
    RescaleMode mode_ = RescaleMode::L1;
    std::vector<Sample> samples_;
    std::vector<std::size_t> trimmed_;  // inputs of which a part is kept; what follows has one per such input
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
            if (density == 0 || density >= 1 || (density + epsilon < 1 && density - epsilon > 0)) continue;
            return ParameterProblem{
                kDensity, i,
                fmt::format("density {} and epsilon {} give keep probabilities from {:g} to {:g}; they must "
                            "lie between 0 and 1, unless density is 0 or 1",
                            density, epsilon, density - epsilon, density + epsilon)};
        }
        return std::nullopt;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        if (trimmedInputs(values).empty()) return wholeChange(addition_, values);
        return std::make_unique<SampledChange>(addition_, values, Sampling(parameter, values).run(),
                                               MatrixShape::of(parameter.shape(), Along::Rows).columns);
    }

    /// What SampledChange holds.
    std::uint64_t workingBytes(Role, const Shape& shape, const ResolvedParameters& values) const override {
        const MatrixShape matrix = MatrixShape::of(shape, Along::Rows);
        const bool holdsFactors = values.shared[kRescale] != 0 &&
                                  static_cast<RescaleMode>(values.shared[kRescaleMode]) == RescaleMode::InverseDensity;
        const auto columns = static_cast<std::size_t>(matrix.columns);
        const std::size_t rowBytes = holdsFactors ? columns * sizeof(float) : keptBitWords(columns) * sizeof(std::uint32_t);
        return trimmedInputs(values).size() * static_cast<std::uint64_t>(matrix.rows) * rowBytes;
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
