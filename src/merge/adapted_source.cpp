#include "aimerge/merge/adapted_source.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/convert.h"
#include "merge/low_rank_product.h"

#include <algorithm>
#include <cstring>

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
        const std::size_t width = bytesPerElement(view_.tensor->dtype);
        const std::size_t count = out.size() / sizeof(float), begin = static_cast<std::size_t>(first);
        const auto stored = std::make_unique_for_overwrite<std::byte[]>(count * width);
        view_.model->read(*view_.tensor, begin * width, {stored.get(), count * width});
        const Stretch stretch{begin, begin + count, stored.get(), out.data()};

        // A row that the stretch begins or ends within, and whole rows in groups.
        const std::size_t columns = factors_.columns;
        for (std::size_t at = begin; at < stretch.end;) {
            const std::size_t row = at / columns, column = at % columns;
            const std::size_t wholeRows = column == 0 ? (stretch.end - at) / columns : 0;
            const std::size_t rows = std::clamp<std::size_t>(wholeRows, 1, kLowRankTileRows);
            const std::size_t endColumn = std::min(columns, column + stretch.end - at);
            adaptRows(stretch, row, rows, column, endColumn);
            at += wholeRows > 0 ? rows * columns : endColumn - column;
        }
    }

private:
    /// Elements [begin, end) of the tensor: their stored bytes, and where their values go.
    struct Stretch {
        std::size_t begin, end;
        const std::byte* stored;
        std::byte* out;
    };

    void adaptRows(const Stretch& stretch, std::size_t firstRow, std::size_t rows, std::size_t column,
                   std::size_t endColumn) const {
        const std::size_t width = bytesPerElement(view_.tensor->dtype);
        float values[kLowRankTileRows * kLowRankTileColumns];
        for (; column < endColumn; column += kLowRankTileColumns) {
            const std::size_t columns = std::min(kLowRankTileColumns, endColumn - column);
            const auto offset = [&](std::size_t i) { return (firstRow + i) * factors_.columns + column - stretch.begin; };
            // Values that are not finite stay so in the sum, and whoever converts the result finds them.
            for (std::size_t i = 0; i < rows; ++i)
                toFloat(view_.tensor->dtype, stretch.stored + offset(i) * width,
                        {values + i * kLowRankTileColumns, columns});
            addLowRank(factors_, {firstRow, rows, column, columns}, values);
            for (std::size_t i = 0; i < rows; ++i)
                std::memcpy(stretch.out + offset(i) * sizeof(float), values + i * kLowRankTileColumns,
                            columns * sizeof(float));
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
