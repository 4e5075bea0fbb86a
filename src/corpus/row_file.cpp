#include "corpus/row_file.h"

#include "aimerge/core/error.h"
#include "aimerge/core/utf8.h"
#include "aimerge/corpus/rows.h"
#include "corpus/text_stream.h"

#include <algorithm>
#include <numeric>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// How the text of a file begins.
struct TextStart {
    std::uint64_t bytes = 0;  // of a byte order mark
    bool isList = false;      // '[' comes first
};

TextStart startOf(const fs::path& file) {
    std::string begin(std::size_t{1} << 12, '\0');
    begin.resize(openTextStream(file)->read(begin));
    if (begin.starts_with("\xff\xfe") || begin.starts_with("\xfe\xff"))
        throw InputError("{}: the file is UTF-16 (by its byte order mark); convert it to UTF-8", file.string());
    TextStart start{.bytes = begin.starts_with("\xef\xbb\xbf") ? 3u : 0u};
    const std::size_t first = begin.find_first_not_of(" \t\r\n", start.bytes);
    start.isList = first != std::string::npos && begin[first] == '[';
    return start;
}

bool isBlank(const std::string& line) {
    return line.find_first_not_of(" \t\r") == std::string::npos;
}

class TextRowFile : public RowFile {
public:
    TextRowFile(fs::path file, TextFormat format, TextUnit unit, const RowVisitor& visit) : file_(std::move(file)) {
        const TextStart start = startOf(file_);
        const std::unique_ptr<TextStream> stream = openTextStream(file_);
        stream->skip(start.bytes);
        if (format == TextFormat::Json && start.isList)
            findElements(*stream, start.bytes, visit);
        else if (format != TextFormat::Text)
            findJsonLines(*stream, start.bytes, visit);
        else
            findText(*stream, start.bytes, unit);
    }

    std::size_t rows() const override { return places_.size(); }
    std::uint64_t bytesOf(std::size_t row) const override { return places_.at(row).bytes; }
    std::string placeOf(std::size_t row) const override { return placeText(places_.at(row).number); }

    std::vector<std::string> read(const std::vector<std::size_t>& rows) override {
        std::vector<std::size_t> byOffset(rows.size());
        std::iota(byOffset.begin(), byOffset.end(), std::size_t{0});
        std::ranges::sort(byOffset, {}, [&](std::size_t index) { return rows[index]; });
        std::vector<std::string> texts(rows.size());
        const std::unique_ptr<TextStream> stream = openTextStream(file_);
        std::uint64_t position = 0;
        for (const std::size_t index : byOffset) {
            const Place& place = places_.at(rows[index]);
            stream->skip(place.offset - position);
            texts[index] = take(*stream, place.bytes);
            position = place.offset + place.bytes;
        }
        return texts;
    }

    std::string readBeginning(std::size_t row, std::uint64_t limit) override {
        const Place& place = places_.at(row);
        const std::unique_ptr<TextStream> stream = openTextStream(file_);
        stream->skip(place.offset);
        return take(*stream, std::min(place.bytes, limit));
    }

private:
    struct Place {
        std::uint64_t offset = 0;  // in the uncompressed file
        std::uint64_t bytes = 0;
        std::uint64_t number = 0;  // of the line or element, from 1
    };

    std::string placeText(std::uint64_t number) const {
        return fmt::format("{}:{}{}", file_.string(), isList_ ? " element " : "", number);
    }

    std::string take(TextStream& stream, std::uint64_t bytes) const {
        std::string text(bytes, '\0');
        if (stream.read(text) != text.size())
            throw InputError("{}: the file became shorter while it was read", file_.string());
        return text;
    }

    void findElements(TextStream& stream, std::uint64_t begin, const RowVisitor& visit) {
        isList_ = true;
        JsonListReader reader(stream, file_.string());
        std::string element;
        while (reader.next(element)) {
            visit(element, [&] { return placeText(reader.number()); });
            places_.push_back({begin + reader.offset(), element.size(), reader.number()});
        }
    }

    void findJsonLines(TextStream& stream, std::uint64_t begin, const RowVisitor& visit) {
        LineReader reader(stream);
        std::string line;
        while (reader.next(line)) {
            if (isBlank(line)) continue;
            visit(line, [&] { return placeText(reader.number()); });
            places_.push_back({begin + reader.offset(), line.size(), reader.number()});
        }
    }

    void findText(TextStream& stream, std::uint64_t begin, TextUnit unit) {
        LineReader reader(stream);
        std::string line;
        std::uint64_t bytes = 0;
        while (reader.next(line)) {
            if (const auto invalid = firstInvalidUtf8(line))
                throw InputError("{}: not valid UTF-8 at byte {} of the line; convert the file to UTF-8",
                                 placeText(reader.number()), *invalid + 1);
            bytes = reader.offset() + line.size() + (reader.endedByBreak() ? 1 : 0);
            if (unit == TextUnit::Line) places_.push_back({begin + reader.offset(), line.size(), reader.number()});
        }
        if (unit == TextUnit::WholeFile && bytes > 0) places_.push_back({begin, bytes, 1});
    }

    fs::path file_;
    bool isList_ = false;
    std::vector<Place> places_;
};

class TableRowFile : public RowFile {
public:
    TableRowFile(fs::path file, std::shared_ptr<TableReader> tables) : file_(std::move(file)), tables_(std::move(tables)) {
        info_ = tables_->open(file_);
    }

    std::size_t rows() const override { return info_.rows; }
    std::uint64_t bytesOf(std::size_t) const override { return 1 + info_.bytes / std::max<std::size_t>(1, info_.rows); }
    std::string placeOf(std::size_t row) const override { return fmt::format("{}: row {}", file_.string(), row + 1); }
    std::vector<std::string> columns() const override { return info_.columns; }
    void selectColumns(const std::vector<std::string>& names) override {
        selected_.clear();
        for (const std::string& name : info_.columns)
            if (std::ranges::find(names, name) != names.end()) selected_.push_back(name);
    }

    std::vector<std::string> read(const std::vector<std::size_t>& rows) override {
        return tables_->read(file_, selected_.empty() ? info_.columns : selected_, rows);
    }
    std::string readBeginning(std::size_t row, std::uint64_t) override { return std::move(read({row}).front()); }

private:
    fs::path file_;
    std::shared_ptr<TableReader> tables_;
    TableInfo info_;
    std::vector<std::string> selected_;
};

}  // namespace

std::unique_ptr<RowFile> openRowFile(const fs::path& file, TextUnit unit, const std::shared_ptr<TableReader>& tables,
                                     const RowVisitor& visit) {
    const TextFormat format = textFormatOf(file);
    if (format == TextFormat::Table) return std::make_unique<TableRowFile>(file, tables);
    return std::make_unique<TextRowFile>(file, format, unit, visit);
}

void forEachRow(const fs::path& file, const std::function<void(const std::string& row, const std::string& place)>& visit) {
    constexpr std::size_t kRowsAtOnce = 1000;
    const auto tables = std::make_shared<TableReader>();
    const auto table =
        openRowFile(file, TextUnit::Line, tables, [&](const std::string& row, const auto& place) { visit(row, place()); });
    if (textFormatOf(file) != TextFormat::Table) return;
    for (std::size_t begin = 0; begin < table->rows(); begin += kRowsAtOnce) {
        std::vector<std::size_t> numbers(std::min(kRowsAtOnce, table->rows() - begin));
        std::iota(numbers.begin(), numbers.end(), begin);
        const std::vector<std::string> rows = table->read(numbers);
        for (std::size_t i = 0; i < rows.size(); ++i) visit(rows[i], table->placeOf(numbers[i]));
    }
}

std::string readWholeText(const fs::path& file) {
    const auto text = openRowFile(file, TextUnit::WholeFile, nullptr, {});
    return text->rows() == 0 ? std::string() : std::move(text->read({0}).front());
}

}  // namespace aimerge
