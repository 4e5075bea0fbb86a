#include "corpus/corpus.h"

#include "aimerge/core/error.h"
#include "aimerge/core/utf8.h"
#include "corpus/chat_renderer.h"
#include "corpus/row_file.h"
#include "corpus/row_layout.h"

#include <algorithm>
#include <optional>

namespace aimerge {
namespace {

struct OpenFile {
    std::unique_ptr<RowFile> rows;
    std::optional<RowLayout> layout;  // none: rows are texts
};

OpenFile openFile(const std::filesystem::path& path, const std::vector<std::string>& textKeys, TextUnit unit,
                  const std::shared_ptr<TableReader>& tables) {
    OpenFile file;
    file.rows = openRowFile(path, unit, tables, [&](const std::string& text, const auto& place) {
        const nlohmann::json row = parseRow(text, place());
        if (!file.layout) file.layout = layoutOf(namesOf(row), textKeys, place());
        plainTextOf(row, *file.layout, place());
    });
    if (textFormatOf(path) == TextFormat::Table) {
        file.layout = layoutOf(file.rows->columns(), textKeys, path.string());
        file.rows->selectColumns(file.layout->columns());
    }
    return file;
}

}  // namespace

struct Corpus::Files {
    std::vector<OpenFile> files;
    std::vector<std::size_t> first;  // document of each file
    std::size_t documents = 0;
    ChatRenderer renderer;

    std::size_t fileOf(std::size_t document) const {
        return static_cast<std::size_t>(std::ranges::upper_bound(first, document) - first.begin()) - 1;
    }

    /// @param texts of rows of the file
    std::vector<Document> documentsOf(const OpenFile& file, std::vector<std::string> texts,
                                      const std::vector<std::size_t>& rows) {
        std::vector<Document> result(texts.size());
        std::vector<std::size_t> chats;
        std::vector<std::string> chatRows, places;
        for (std::size_t i = 0; i < texts.size(); ++i) {
            if (!file.layout) {
                result[i].text = std::move(texts[i]);
                continue;
            }
            const std::string place = file.rows->placeOf(rows[i]);
            if (auto text = plainTextOf(parseRow(texts[i], place), *file.layout, place)) {
                result[i].text = *std::move(text);
                continue;
            }
            chats.push_back(i);
            chatRows.push_back(std::move(texts[i]));
            places.push_back(place);
        }
        if (chats.empty()) return result;
        std::vector<std::string> rendered = renderer.render(chatRows, *file.layout, places);
        for (std::size_t i = 0; i < chats.size(); ++i) result[chats[i]] = {std::move(rendered[i]), true};
        return result;
    }
};

Corpus::Corpus(std::unique_ptr<Files> files) : files_(std::move(files)) {}
Corpus::Corpus(Corpus&&) noexcept = default;
Corpus& Corpus::operator=(Corpus&&) noexcept = default;
Corpus::~Corpus() = default;

Corpus Corpus::open(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& textKeys, TextUnit unit,
                    ChatFormat chat) {
    std::unique_ptr<Files> opened(new Files{{}, {}, 0, ChatRenderer(std::move(chat))});
    const auto tables = std::make_shared<TableReader>();
    for (const std::filesystem::path& path : files) {
        opened->files.push_back(openFile(path, textKeys, unit, tables));
        opened->first.push_back(opened->documents);
        opened->documents += opened->files.back().rows->rows();
    }
    return Corpus(std::move(opened));
}

std::size_t Corpus::documents() const {
    return files_->documents;
}

std::uint64_t Corpus::bytesOf(std::size_t document) const {
    const std::size_t file = files_->fileOf(document);
    return files_->files[file].rows->bytesOf(document - files_->first[file]);
}

std::vector<Document> Corpus::read(const std::vector<std::size_t>& documents) const {
    std::vector<std::vector<std::size_t>> indices(files_->files.size());  // into `documents`, by file
    for (std::size_t i = 0; i < documents.size(); ++i) indices[files_->fileOf(documents[i])].push_back(i);
    std::vector<Document> result(documents.size());
    for (std::size_t number = 0; number < indices.size(); ++number) {
        if (indices[number].empty()) continue;
        const OpenFile& file = files_->files[number];
        std::vector<std::size_t> rows;
        for (const std::size_t i : indices[number]) rows.push_back(documents[i] - files_->first[number]);
        std::vector<Document> own = files_->documentsOf(file, file.rows->read(rows), rows);
        for (std::size_t i = 0; i < own.size(); ++i) result[indices[number][i]] = std::move(own[i]);
    }
    return result;
}

Corpus::Beginning Corpus::readBeginning(std::size_t document, std::uint64_t limit) const {
    const std::size_t number = files_->fileOf(document), row = document - files_->first[number];
    const OpenFile& file = files_->files[number];
    Beginning beginning;
    if (file.layout) {
        beginning.document = std::move(read({document}).front());
        beginning.isWhole = beginning.document.text.size() <= limit;
    } else {
        beginning.document.text = file.rows->readBeginning(row, limit);
        beginning.isWhole = beginning.document.text.size() == file.rows->bytesOf(row);
    }
    std::string& text = beginning.document.text;
    if (beginning.isWhole) return beginning;
    text.resize(std::min<std::size_t>(text.size(), limit));
    const std::size_t lineBreak = text.rfind('\n');
    text.resize(lineBreak != std::string::npos ? lineBreak + 1 : wholeCharacters(text).size());
    return beginning;
}

}  // namespace aimerge
