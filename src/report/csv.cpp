#include "aimerge/report/csv.h"

#include "aimerge/core/error.h"

namespace aimerge {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Reads records one after the other off a text.
class CsvReader {
public:
    CsvReader(std::string_view text, const std::filesystem::path& file) : text_(text), file_(file) {}

    bool atEnd() const { return position_ >= text_.size(); }

    CsvRecord record() {
        CsvRecord record{line_, {}};
        do {
            record.fields.push_back(next() == '"' ? quotedField() : plainField());
        } while (takeComma());
        takeLineEnd();
        return record;
    }

private:
    char next() const { return atEnd() ? '\n' : text_[position_]; }
    bool atLineEnd() const { return next() == '\n' || text_.substr(position_, 2) == "\r\n"; }

    std::string plainField() {
        const std::size_t begin = position_;
        while (next() != ',' && !atLineEnd()) {
            if (next() == '"')
                throw InputError(
                    "{}: line {}: a quote in the middle of a field; quote the whole field and double the quotes in it",
                    file_.string(), line_);
            ++position_;
        }
        return std::string(text_.substr(begin, position_ - begin));
    }

    std::string quotedField() {
        const std::size_t firstLine = line_;
        std::string field;
        for (++position_; !atEnd(); ++position_) {
            if (next() == '"') {
                ++position_;
                if (next() != '"' || atEnd()) {
                    if (next() != ',' && !atLineEnd())
                        throw InputError("{}: line {}: text after the closing quote of a field", file_.string(), line_);
                    return field;
                }
            }
            line_ += next() == '\n';
            field += next();
        }
        throw InputError("{}: line {}: a quoted field begins here and is not closed", file_.string(), firstLine);
    }

    bool takeComma() {
        const bool comma = next() == ',';
        position_ += comma;
        return comma;
    }

    void takeLineEnd() {
        if (next() == '\r') ++position_;
        ++position_;
        ++line_;
    }

    std::string_view text_;
    const std::filesystem::path& file_;
    std::size_t position_ = 0, line_ = 1;
};

bool isBlank(const CsvRecord& record) {
    return record.fields.size() == 1 && record.fields.front().empty();
}

}  // namespace

std::vector<CsvRecord> parseCsv(std::string_view text, const std::filesystem::path& file) {
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    CsvReader reader(text, file);
    std::vector<CsvRecord> records;
    while (!reader.atEnd()) {
        CsvRecord record = reader.record();
        if (!isBlank(record)) records.push_back(std::move(record));
    }
    return records;
}

std::string csvField(std::string_view value) {
    if (value.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(value);
    std::string field = "\"";
    for (const char c : value) {
        if (c == '"') field += '"';
        field += c;
    }
    return field + '"';
}

}  // namespace aimerge
