#include "aimerge/vocabulary/row_map.h"

#include <algorithm>
#include <stdexcept>

namespace aimerge {

RowMap RowMap::prefix(std::size_t input, std::int64_t rows) {
    RowMap map(input);
    for (std::int64_t row = 0; row < rows; ++row) {
        const RowSource source{static_cast<std::uint32_t>(input), static_cast<std::uint32_t>(row)};
        map.append({&source, 1});
    }
    return map;
}

void RowMap::append(std::span<const RowSource> sources) {
    const RowSource own{static_cast<std::uint32_t>(owner_), static_cast<std::uint32_t>(ends_.size())};
    copiesOwnPrefix_ = copiesOwnPrefix_ && sources.size() == 1 && sources.front() == own;
    sources_.insert(sources_.end(), sources.begin(), sources.end());
    ends_.push_back(sources_.size());
}

std::span<const RowSource> RowMap::sources(std::int64_t row) const {
    if (row < 0 || row >= alignedRows()) throw std::out_of_range("RowMap::sources");
    const std::size_t index = static_cast<std::size_t>(row);
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return {sources_.data() + begin, ends_[index] - begin};
}

std::int64_t RowMap::copyRun(std::int64_t row) const {
    const auto first = sources(row);
    if (first.size() != 1) return 0;
    std::int64_t length = 1;
    for (; row + length < alignedRows(); ++length) {
        const auto next = sources(row + length);
        const RowSource following{first[0].input, first[0].row + static_cast<std::uint32_t>(length)};
        if (next.size() != 1 || next[0] != following) break;
    }
    return length;
}

void RowMean::add(std::span<const float> row) {
    if (row.size() != sums_.size()) throw std::invalid_argument("RowMean::add: another number of columns");
    for (std::size_t column = 0; column < row.size(); ++column) sums_[column] += row[column];
    ++rows_;
}

void RowMean::store(std::span<float> out) const {
    if (out.size() != sums_.size()) throw std::invalid_argument("RowMean::store: another number of columns");
    const double count = static_cast<double>(std::max<std::int64_t>(rows_, 1));
    for (std::size_t column = 0; column < out.size(); ++column) out[column] = static_cast<float>(sums_[column] / count);
}

}  // namespace aimerge
