#include "aimerge/merge/adapted_source.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/convert.h"
#include "merge/low_rank_product.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace aimerge {
namespace {

enum class Orientation { AsStored, Transposed };

/// A factor in float32, in rows.
std::vector<float> readFactor(const Checkpoint& model, const TensorInfo& tensor, Orientation orientation) {
    std::vector<std::byte> bytes(tensor.bytes.size());
    model.read(tensor, 0, bytes);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    if (toFloat(tensor.dtype, bytes.data(), values) == Finite::No)
        throw InputError(
            "{}: tensor {} has a value that is NaN or infinite; the adapter is damaged or its training diverged",
            model.files()[tensor.fileIndex].string(), tensor.name);
    if (orientation == Orientation::AsStored) return values;
    const auto rows = static_cast<std::size_t>(tensor.shape[0]), columns = static_cast<std::size_t>(tensor.shape[1]);
    std::vector<float> transposed(values.size());
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; ++column)
            transposed[column * rows + row] = values[row * columns + column];
    return transposed;
}

/// (B A)^T = A^T B^T: either way a left factor [rows, rank] and a right one [rank, columns].
LowRankFactors readFactors(const Checkpoint& model, const LowRankUpdate& update) {
    const auto orientation = update.transposed ? Orientation::Transposed : Orientation::AsStored;
    LowRankFactors factors;
    factors.left = readFactor(model, update.transposed ? update.a : update.b, orientation);
    factors.right = readFactor(model, update.transposed ? update.b : update.a, orientation);
    factors.rank = static_cast<std::size_t>(update.rank());
    factors.columns = static_cast<std::size_t>(update.shape()[1]);
    factors.scaling = static_cast<float>(update.scaling);
    return factors;
}

class AdaptedSource : public TensorSource {
public:
    AdaptedSource(const InputView& view, const LowRankUpdate& update)
        : TensorSource(view.origin(), Dtype::F32), view_(view), factors_(readFactors(*view.model, update)) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        const std::size_t count = out.size() / sizeof(float), columns = factors_.columns;
        const auto begin = static_cast<std::size_t>(first), end = begin + count;
        // Read a group of rows at a time: that stays in the second-level cache, and below the size that malloc maps.
        const std::size_t most = std::min(count, kLowRankTileRows * columns);
        const auto stored = std::make_unique_for_overwrite<std::byte[]>(most * bytesPerElement(view_.tensor->dtype));

        // A row that the stretch begins or ends within, and whole rows in groups.
        for (std::size_t at = begin; at < end;) {
            const std::size_t column = at % columns;
            const std::size_t wholeRows = column == 0 ? (end - at) / columns : 0;
            const std::size_t rows = std::clamp<std::size_t>(wholeRows, 1, kLowRankTileRows);
            const std::size_t width = std::min(columns - column, end - at);
            adaptRows({at / columns, rows, column, width}, stored.get(), out.data() + (at - begin) * sizeof(float));
            at += rows * width;
        }
    }

private:
    /// @param block whole rows, or a part of one; of any width
    /// @param stored room for its bytes @param out for its values
    void adaptRows(const LowRankTile& block, std::byte* stored, std::byte* out) const {
        const std::size_t bytes = bytesPerElement(view_.tensor->dtype);
        view_.model->read(*view_.tensor, (block.firstRow * factors_.columns + block.firstColumn) * bytes,
                          {stored, block.rows * block.columns * bytes});
        float values[kLowRankTileRows * kLowRankTileColumns];
        for (std::size_t column = 0; column < block.columns; column += kLowRankTileColumns) {
            const std::size_t columns = std::min(kLowRankTileColumns, block.columns - column);
            const auto offset = [&](std::size_t row) { return row * block.columns + column; };
            // Values that are not finite stay so in the sum, and whoever converts the result finds them.
            for (std::size_t i = 0; i < block.rows; ++i)
                toFloat(view_.tensor->dtype, stored + offset(i) * bytes, {values + i * kLowRankTileColumns, columns});
            addLowRank(factors_, {block.firstRow, block.rows, block.firstColumn + column, columns}, values);
            for (std::size_t i = 0; i < block.rows; ++i)
                std::memcpy(out + offset(i) * sizeof(float), values + i * kLowRankTileColumns, columns * sizeof(float));
        }
    }

    InputView view_;
    LowRankFactors factors_;
};

}  // namespace

std::shared_ptr<const TensorSource> adaptedSource(const InputView& view, const LowRankUpdate& update) {
    return std::make_shared<AdaptedSource>(view, update);
}

}  // namespace aimerge
