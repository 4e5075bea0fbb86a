#include "aimerge/merge/tensor_source.h"

#include "aimerge/architecture/architecture.h"
#include "aimerge/checkpoint/adapter.h"
#include "aimerge/core/error.h"
#include "merge/sources/adapted_source.h"
#include "merge/sources/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace aimerge {
namespace {

class DirectSource : public TensorSource {
public:
    explicit DirectSource(const InputView& view) : TensorSource(view.origin(), view.tensor->dtype), view_(view) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        view_.model->read(*view_.tensor, static_cast<std::uint64_t>(first) * bytesPerElement(dtype()), out);
    }

private:
    InputView view_;
};

/// Rows of the output and where they come from: a stretch of rows of one model, or (model == kMean)
/// rows that are means or zeros.
struct Stretch {
    static constexpr std::size_t kMean = ~std::size_t{0};

    std::int64_t first = 0, rows = 0;
    std::size_t model = kMean;
    std::int64_t sourceRow = 0;
    std::vector<RowSource> sources;  // of a mean
};

std::int64_t elementsPerToken(const Shape& shape) {
    return elementCount(shape) / shape[vocabularyAxis(shape)];
}

class AlignedSource : public TensorSource {
public:
    AlignedSource(std::size_t owner, std::vector<InputView> views, const RowMap& map)
        : TensorSource(views.at(owner).origin(), Dtype::F32), columns_(elementsPerToken(views.at(owner).tensor->shape)) {
        for (const InputView& view : views) models_.push_back(directSource(view));
        for (std::int64_t row = 0; row < map.alignedRows();) {
            const std::int64_t run = map.copyRun(row);
            const auto sources = map.sources(row);
            if (run > 0)
                stretches_.push_back({row, run, sources[0].input, sources[0].row, {}});
            else
                stretches_.push_back({row, 1, Stretch::kMean, 0, {sources.begin(), sources.end()}});
            row += std::max<std::int64_t>(run, 1);
        }
        if (map.rows() > map.alignedRows()) addPadding(map);
    }

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        const auto count = static_cast<std::int64_t>(out.size() / sizeof(float));
        const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), first / columns_,
                                            [](std::int64_t row, const Stretch& stretch) { return row < stretch.first; });
        auto stretch = std::prev(after);
        std::vector<float> values;
        for (std::int64_t done = 0; done < count; ++stretch) {
            const std::int64_t element = first + done, end = (stretch->first + stretch->rows) * columns_;
            const std::int64_t part = std::min(count - done, end - element);
            values.resize(static_cast<std::size_t>(part));
            readStretch(*stretch, element - stretch->first * columns_, values);
            std::memcpy(out.data() + static_cast<std::size_t>(done) * sizeof(float), values.data(),
                        values.size() * sizeof(float));
            done += part;
        }
    }

private:
    /// @param offset of the first wanted element, from the stretch's first
    void readStretch(const Stretch& stretch, std::int64_t offset, std::span<float> out) const {
        if (stretch.model != Stretch::kMean) return readRows(stretch.model, stretch.sourceRow * columns_ + offset, out);
        if (stretch.first == paddingFirst_) {  // every row of it is the same
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] = padding_[(static_cast<std::size_t>(offset) + i) % padding_.size()];
            return;
        }
        RowMean mean(out.size());
        std::vector<float> row(out.size());
        for (const RowSource& source : stretch.sources) {
            readRows(source.input, static_cast<std::int64_t>(source.row) * columns_ + offset, row);
            mean.add(row);
        }
        mean.store(out);
    }

    void readRows(std::size_t model, std::int64_t first, std::span<float> out) const {
        const TensorSource& source = *models_[model];
        std::vector<std::byte> bytes(out.size() * bytesPerElement(source.dtype()));
        source.fetch(first, bytes);
        source.convert(first, bytes.data(), out);
    }

    void addPadding(const RowMap& map) {
        RowMean mean(static_cast<std::size_t>(columns_));
        std::vector<float> row(static_cast<std::size_t>(columns_));
        for (const Stretch& stretch : stretches_) {
            for (std::int64_t r = 0; r < stretch.rows; ++r) {
                readStretch(stretch, r * columns_, row);
                mean.add(row);
            }
        }
        padding_.resize(row.size());
        mean.store(padding_);
        paddingFirst_ = map.alignedRows();
        stretches_.push_back({paddingFirst_, map.rows() - map.alignedRows(), Stretch::kMean, 0, {}});
    }

    std::int64_t columns_;
    std::vector<std::shared_ptr<const TensorSource>> models_;
    std::vector<Stretch> stretches_;  // all rows, ascending
    std::vector<float> padding_;
    std::int64_t paddingFirst_ = -1;
};

/// Value of one element as text: "nan", "inf", "1e+300".
std::string valueText(Dtype dtype, const std::byte* element, float converted) {
    if (dtype != Dtype::F64) return fmt::format("{}", converted);
    double value = 0;
    std::memcpy(&value, element, sizeof value);
    return fmt::format("{}", value);
}

}  // namespace

void TensorSource::convert(std::int64_t first, const std::byte* fetched, std::span<float> out) const {
    if (toFloat(dtype_, fetched, out) == Finite::Yes) return;
    const auto culprit = std::find_if(out.begin(), out.end(), [](float value) { return !std::isfinite(value); });
    const auto index = culprit - out.begin();
    throw InputError(
        "{} is {} at element {}; expected finite values that float32 can hold; fetch the checkpoint again. If it stays, the "
        "values were written so",
        origin_, valueText(dtype_, fetched + static_cast<std::size_t>(index) * bytesPerElement(dtype_), *culprit),
        first + index);
}

std::vector<float> TensorSource::values(std::int64_t first, std::size_t count) const {
    std::vector<std::byte> fetched(count * bytesPerElement(dtype()));
    fetch(first, fetched);
    std::vector<float> values(count);
    convert(first, fetched.data(), values);
    return values;
}

std::shared_ptr<const TensorSource> directSource(const InputView& view) {
    if (const ParameterUpdate* update = view.model->updateOf(*view.tensor)) return adaptedSource(view, *update);
    return std::make_shared<DirectSource>(view);
}

std::shared_ptr<const TensorSource> alignedSource(std::size_t owner, std::vector<InputView> views, const RowMap& map) {
    return std::make_shared<AlignedSource>(owner, std::move(views), map);
}

}  // namespace aimerge
