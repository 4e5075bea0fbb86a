#pragma once
// A text corpus as numbered documents, of one or more files: .txt, .jsonl, .json, Parquet, Arrow. Opening looks at all of a
// text file and at the columns of a table; afterwards documents are read by number, so that a large corpus is neither held
// nor encoded whole.

#include "aimerge/corpus/corpus_files.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

/// How conversations become text.
struct ChatFormat {
    std::filesystem::path tokenizerFolder;  // whose special tokens the template may write
    std::string chatTemplate;               // Jinja; empty: there is none
};

struct Document {
    std::string text;
    bool isChat = false;  // written by a chat template, special tokens included
};

class Corpus {
public:
    using TextUnit = aimerge::TextUnit;

    /// @param unit elsewhere than in .txt a line, element or row is a document; blank lines of .jsonl are skipped
    /// @param textKeys of rows with columns: their text is what stands under them, one after another; empty: by the layouts
    ///        of corpus/row_layout.h
    /// @throws InputError: unknown name, invalid UTF-8, JSON or compressed data, a row without the keys; names file and line
    static Corpus open(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& textKeys,
                       TextUnit unit, ChatFormat chat = {});

    Corpus(Corpus&&) noexcept;
    Corpus& operator=(Corpus&&) noexcept;
    ~Corpus();

    std::size_t documents() const;

    /// About; of a plain text what it has.
    std::uint64_t bytesOf(std::size_t document) const;

    /// In the order asked for; each document at most once. One pass over each file, as far as the last of them.
    /// @throws InputError for a row of a table that has no text, and for a conversation that the chat template refuses
    std::vector<Document> read(const std::vector<std::size_t>& documents) const;

    struct Beginning {
        Document document;
        bool isWhole = false;
    };
    /// The document's first bytes, at most `limit`, cut after a line break where there is one, else between two characters.
    Beginning readBeginning(std::size_t document, std::uint64_t limit) const;

private:
    struct Files;
    explicit Corpus(std::unique_ptr<Files> files);

    std::unique_ptr<Files> files_;
};

}  // namespace aimerge
