#include "merge/sources/adapted_source.h"

#include "aimerge/checkpoint/adapter.h"
#include "aimerge/core/error.h"
#include "merge/algebra/low_rank_product.h"
#include "merge/sources/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>

namespace aimerge {
namespace {

/// Rows [first, first + count) of a tensor of the adapter, in float32.
std::vector<float> readRows(const Checkpoint& model, const TensorInfo& tensor, std::int64_t first, std::int64_t count) {
    const std::size_t row = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]);
    std::vector<std::byte> bytes(row * static_cast<std::size_t>(count));
    model.read(tensor, row * static_cast<std::size_t>(first), bytes);
    std::vector<float> values(bytes.size() / bytesPerElement(tensor.dtype));
    if (toFloat(tensor.dtype, bytes.data(), values) == Finite::No)
        throw InputError(
            "{}: tensor {} has a value that is NaN or infinite; fetch the adapter again. If it stays, it was written so",
            model.files()[tensor.fileIndex].string(), tensor.name);
    return values;
}

std::vector<float> readAll(const Checkpoint& model, const TensorInfo& tensor) {
    return readRows(model, tensor, 0, tensor.shape[0]);
}

std::vector<float> transposed(const std::vector<float>& values, std::size_t rows) {
    const std::size_t columns = values.size() / rows;
    std::vector<float> result(values.size());
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; ++column)
            result[column * rows + row] = values[row * columns + column];
    return result;
}

/// The factors of each expert that the parameter has; of a plain matrix, one element.
std::vector<LowRankFactors> readFactors(const Checkpoint& model, const LowRankUpdate& update) {
    const std::int64_t first = update.expert.value_or(0), count = update.expert ? 1 : update.experts;
    const std::vector<float> a = readRows(model, update.a, first * update.rank(), count * update.rank());
    const std::vector<float> b = readRows(model, update.b, update.firstOutput, update.outputs);
    const auto rank = static_cast<std::size_t>(update.rank()), experts = static_cast<std::size_t>(update.experts);
    const auto columns = static_cast<std::size_t>(update.a.shape[1]),
               firstInput = static_cast<std::size_t>(update.firstInput), inputs = static_cast<std::size_t>(update.inputs),
               outputs = static_cast<std::size_t>(update.outputs);
    std::vector<LowRankFactors> ofExperts(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < ofExperts.size(); ++i) {
        const std::size_t expert = static_cast<std::size_t>(first) + i;
        std::vector<float> right, left(outputs * rank);
        for (std::size_t row = i * rank; row < (i + 1) * rank; ++row) {
            const auto begin = a.begin() + static_cast<std::ptrdiff_t>(row * columns + firstInput);
            right.insert(right.end(), begin, begin + static_cast<std::ptrdiff_t>(inputs));
        }
        for (std::size_t at = 0; at < left.size(); ++at) left[at] = b[at * experts + expert];
        LowRankFactors& factors = ofExperts[i];
        factors.rank = rank;
        factors.scaling = static_cast<float>(update.scaling);
        // (B A)^T = A^T B^T: either way a left factor [rows, rank] and a right one [rank, columns].
        factors.columns = update.transposed ? outputs : inputs;
        factors.left = update.transposed ? transposed(right, rank) : left;
        factors.right = update.transposed ? transposed(left, outputs) : std::move(right);
    }
    return ofExperts;
}

class LowRankSource : public TensorSource {
public:
    LowRankSource(const InputView& view, const LowRankUpdate& update)
        : TensorSource(view.origin(), Dtype::F32),
          view_(view),
          factors_(readFactors(*view.model, update)),
          columns_(factors_.front().columns),
          rows_(factors_.front().left.size() / factors_.front().rank),
          outputsAreColumns_(update.transposed) {
        if (update.magnitude) factorOfOutput_ = dividedByNorms(readAll(*view.model, *update.magnitude));
    }

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        walk(static_cast<std::size_t>(first), out.size() / sizeof(float), [&](std::size_t at, std::span<float> values) {
            scaleOutputs(static_cast<std::size_t>(first) + at, values);
            std::memcpy(out.data() + at * sizeof(float), values.data(), values.size_bytes());
        });
    }

private:
    /// W + scaling B A, elements [begin, begin + count): take(position behind `begin`, values within one row).
    template <typename Take>
    void walk(std::size_t begin, std::size_t count, const Take& take) const {
        const std::size_t end = begin + count;
        // Read a group of rows at a time: that stays in the second-level cache, and below the size that malloc maps.
        const std::size_t most = std::min(count, kLowRankTileRows * columns_);
        const auto stored = std::make_unique_for_overwrite<std::byte[]>(most * bytesPerElement(view_.tensor->dtype));

        // A row that the stretch begins or ends within, and whole rows in groups, none of them of two experts.
        for (std::size_t at = begin; at < end;) {
            const std::size_t row = at / columns_, column = at % columns_;
            const std::size_t wholeRows = column == 0 ? std::min((end - at) / columns_, rows_ - row % rows_) : 0;
            const std::size_t rows = std::clamp<std::size_t>(wholeRows, 1, kLowRankTileRows);
            const std::size_t width = std::min(columns_ - column, end - at);
            adaptRows({row, rows, column, width}, stored.get(),
                      [&](std::size_t offset, std::span<float> values) { take(at - begin + offset, values); });
            at += rows * width;
        }
    }

    /// @param block whole rows of one expert, or a part of one; of any width
    /// @param stored room for its bytes
    template <typename Take>
    void adaptRows(const LowRankTile& block, std::byte* stored, const Take& take) const {
        const std::size_t bytes = bytesPerElement(view_.tensor->dtype);
        view_.model->read(*view_.tensor, (block.firstRow * columns_ + block.firstColumn) * bytes,
                          {stored, block.rows * block.columns * bytes});
        const LowRankFactors& factors = factors_[block.firstRow / rows_];
        float values[kLowRankTileRows * kLowRankTileColumns];
        for (std::size_t column = 0; column < block.columns; column += kLowRankTileColumns) {
            const std::size_t columns = std::min(kLowRankTileColumns, block.columns - column);
            const auto offset = [&](std::size_t row) { return row * block.columns + column; };
            // Values that are not finite stay so in the sum, and whoever converts the result finds them.
            for (std::size_t i = 0; i < block.rows; ++i)
                toFloat(view_.tensor->dtype, stored + offset(i) * bytes, {values + i * kLowRankTileColumns, columns});
            addLowRank(factors, {block.firstRow % rows_, block.rows, block.firstColumn + column, columns}, values);
            for (std::size_t i = 0; i < block.rows; ++i)
                take(offset(i), std::span(values + i * kLowRankTileColumns, columns));
        }
    }

    /// The magnitude of each output by the norm of W + scaling B A over its inputs.
    std::vector<float> dividedByNorms(std::vector<float> magnitudes) const {
        std::vector<double> squares(magnitudes.size());
        walk(0, rows_ * columns_, [&](std::size_t at, std::span<const float> values) {
            if (outputsAreColumns_) {
                double* const sums = squares.data() + at % columns_;
                for (std::size_t i = 0; i < values.size(); ++i) sums[i] += static_cast<double>(values[i]) * values[i];
            } else {
                double& sum = squares[at / columns_];
                for (const float value : values) sum += static_cast<double>(value) * value;
            }
        });
        for (std::size_t i = 0; i < magnitudes.size(); ++i) magnitudes[i] /= static_cast<float>(std::sqrt(squares[i]));
        return magnitudes;
    }

    /// @param at the first value's element of the tensor; the others are in its row
    void scaleOutputs(std::size_t at, std::span<float> values) const {
        if (factorOfOutput_.empty()) return;
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] *= factorOfOutput_[outputsAreColumns_ ? at % columns_ + i : at / columns_];
    }

    InputView view_;
    std::vector<LowRankFactors> factors_;  // of each expert
    std::size_t columns_, rows_;           // of one
    bool outputsAreColumns_;
    std::vector<float> factorOfOutput_;  // DoRA; otherwise empty
};

class TokenRowsSource : public TensorSource {
public:
    TokenRowsSource(const InputView& view, const TokenRows& update)
        : TensorSource(view.origin(), Dtype::F32),
          view_(view),
          rows_(readAll(*view.model, update.rows)),
          columns_(static_cast<std::size_t>(view.tensor->shape[1])) {
        for (std::size_t i = 0; i < update.tokens.size(); ++i)
            tokens_.emplace(static_cast<std::size_t>(update.tokens[i]), rows_.data() + i * columns_);
    }

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        const std::size_t bytes = bytesPerElement(view_.tensor->dtype);
        const std::size_t begin = static_cast<std::size_t>(first), end = begin + out.size() / sizeof(float);
        std::vector<std::byte> stored((end - begin) * bytes);
        std::vector<float> values(end - begin);
        view_.model->read(*view_.tensor, begin * bytes, stored);
        // Values that are not finite stay so, and whoever converts the result finds them.
        toFloat(view_.tensor->dtype, stored.data(), values);
        for (auto row = tokens_.lower_bound(begin / columns_); row != tokens_.end() && row->first * columns_ < end; ++row) {
            const std::size_t from = std::max(begin, row->first * columns_), to = std::min(end, (row->first + 1) * columns_);
            std::copy_n(row->second + (from - row->first * columns_), to - from, values.data() + (from - begin));
        }
        std::memcpy(out.data(), values.data(), out.size());
    }

private:
    InputView view_;
    std::vector<float> rows_;
    std::size_t columns_;
    std::map<std::size_t, const float*> tokens_;
};

class MergedValuesSource : public TensorSource {
public:
    MergedValuesSource(const InputView& view, const MergedValues& update)
        : TensorSource(view.origin(), update.values.dtype), model_(*view.model), values_(update.values) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        model_.read(values_, static_cast<std::uint64_t>(first) * bytesPerElement(dtype()), out);
    }

private:
    const Checkpoint& model_;
    const TensorInfo& values_;
};

}  // namespace

std::shared_ptr<const TensorSource> adaptedSource(const InputView& view, const ParameterUpdate& update) {
    if (const auto* rows = std::get_if<TokenRows>(&update)) return std::make_shared<TokenRowsSource>(view, *rows);
    if (const auto* merged = std::get_if<MergedValues>(&update)) return std::make_shared<MergedValuesSource>(view, *merged);
    return std::make_shared<LowRankSource>(view, std::get<LowRankUpdate>(update));
}

}  // namespace aimerge
