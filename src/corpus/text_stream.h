#pragma once
// A file read from its beginning to its end as the text it holds: plain, or decompressed on the way when its name ends in
// .zst.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace aimerge {

class TextStream {
public:
    virtual ~TextStream() = default;

    /// Fills `out` from its beginning as far as the text reaches; fewer bytes than asked for only at the end.
    virtual std::size_t read(std::span<char> out) = 0;

    /// Moves on by `bytes`, at most to the end.
    virtual void skip(std::uint64_t bytes) = 0;
};

/// @throws InputError, later also from read() and skip(): no such file, damaged or truncated zstd data
std::unique_ptr<TextStream> openTextStream(const std::filesystem::path& path);

/// Lines of a stream; the last one may end without a line break.
class LineReader {
public:
    explicit LineReader(TextStream& stream) : stream_(stream), buffer_(std::size_t{1} << 20, '\0') {}

    /// The next line without its line break; false after the last.
    bool next(std::string& line);
    std::uint64_t offset() const { return offset_; }     // of that line in the text
    std::uint64_t number() const { return number_; }     // of that line, from 1
    bool endedByBreak() const { return endedByBreak_; }  // whether a line break followed it

private:
    TextStream& stream_;
    std::string buffer_;
    std::size_t begin_ = 0, end_ = 0;
    std::uint64_t offset_ = 0, nextOffset_ = 0, number_ = 0;
    bool endedByBreak_ = false;
};

}  // namespace aimerge
