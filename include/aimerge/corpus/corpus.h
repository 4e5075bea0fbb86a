#pragma once
// A text corpus as numbered documents: .txt or .jsonl, either also compressed as .zst. Opening reads the file once and
// checks all of it; afterwards documents are read by number, so that a large corpus is neither held nor encoded whole.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace aimerge {

class Corpus {
public:
    /// What a .txt file consists of. A .jsonl file has one document per line either way; its blank lines are skipped.
    enum class TextUnit { WholeFile, Line };

    /// @param textKeys of a .jsonl line: its text is what stands under them, one after another
    /// @throws InputError: unknown extension, invalid UTF-8, JSON or zstd data, line without the key; names file and line
    static Corpus open(const std::filesystem::path& path, const std::vector<std::string>& textKeys, TextUnit unit);

    std::size_t documents() const { return places_.size(); }

    /// Bytes of the document in the file; for .jsonl those of its line, an upper bound of the text's.
    std::uint64_t bytesOf(std::size_t document) const { return places_.at(document).bytes; }

    /// The texts, in the order asked for; each document at most once. One pass over the file, as far as the last of them.
    std::vector<std::string> read(const std::vector<std::size_t>& documents) const;

    /// The document's first bytes, at most `limit`, cut after a line break where there is one, else between two characters.
    std::string readBeginning(std::size_t document, std::uint64_t limit) const;

private:
    struct Place {
        std::uint64_t offset = 0;  // in the uncompressed file
        std::uint64_t bytes = 0;
    };

    std::string textOf(std::string raw) const;

    std::filesystem::path path_;
    std::vector<std::string> textKeys_;  // empty for .txt
    std::vector<Place> places_;
};

}  // namespace aimerge
