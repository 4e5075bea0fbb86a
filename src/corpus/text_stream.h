#pragma once
// A file read from its beginning to its end as the text it holds: plain, or decompressed on the way when its name ends in
// .zst or .gz.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace aimerge {

class TextStream {
public:
    virtual ~TextStream() = default;

    /// Fills `out` from its beginning as far as the text reaches; fewer bytes than asked for only at the end.
    virtual std::size_t read(std::span<char> out) = 0;

    /// Moves on by `bytes`, at most to the end.
    virtual void skip(std::uint64_t bytes);
};

/// @throws InputError, later also from read() and skip(): no such file, damaged or truncated data
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

/// Elements of a JSON list as they are written. Whether an element is JSON by itself is left to the caller.
class JsonListReader {
public:
    /// @param name of the file, for messages
    JsonListReader(TextStream& stream, std::string name) : stream_(stream), name_(std::move(name)) {}

    /// The next element; false after the last.
    /// @throws InputError when the list does not end, or something follows it
    bool next(std::string& element);
    std::uint64_t offset() const { return offset_; }  // of that element in the text
    std::uint64_t number() const { return number_; }  // of that element, from 1

private:
    int peek();  // the next byte; -1 at the end
    void take() { ++begin_, ++position_; }
    int peekBehindSpace();
    [[noreturn]] void fail(const char* what) const;

    TextStream& stream_;
    std::string name_;
    std::string buffer_;
    std::size_t begin_ = 0;
    std::uint64_t position_ = 0, offset_ = 0, number_ = 0;
    bool isOpen_ = false;
};

}  // namespace aimerge
