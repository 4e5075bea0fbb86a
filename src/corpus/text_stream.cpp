#include "corpus/text_stream.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace aimerge {
namespace {

class PlainStream : public TextStream {
public:
    explicit PlainStream(const std::filesystem::path& path) : file_(File::openForReading(path)), size_(file_.size()) {}

    std::size_t read(std::span<char> out) override {
        const std::size_t bytes = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size_ - position_));
        file_.readAt(position_, std::as_writable_bytes(out.first(bytes)));
        position_ += bytes;
        return bytes;
    }

    void skip(std::uint64_t bytes) override { position_ += std::min(bytes, size_ - position_); }

private:
    File file_;
    std::uint64_t size_;
    std::uint64_t position_ = 0;
};

class ZstdStream : public TextStream {
public:
    explicit ZstdStream(const std::filesystem::path& path)
        : compressed_(path),
          name_(path.string()),
          context_(ZSTD_createDStream(), &ZSTD_freeDStream),
          input_(ZSTD_DStreamInSize()),
          pending_{input_.data(), 0, 0} {}

    std::size_t read(std::span<char> out) override {
        ZSTD_outBuffer target{out.data(), out.size(), 0};
        while (target.pos < target.size) {
            if (pending_.pos == pending_.size && !outputMayRemain_) {
                pending_ = {input_.data(), compressed_.read(input_), 0};
                if (pending_.size == 0) break;
            }
            const std::size_t before = target.pos;
            const std::size_t hint = ZSTD_decompressStream(context_.get(), &target, &pending_);
            if (ZSTD_isError(hint))
                throw InputError("{}: damaged zstd data: {}; fetch or compress the file again", name_,
                                 ZSTD_getErrorName(hint));
            frameOpen_ = hint != 0;
            // A full buffer may leave decompressed bytes inside the context, which come without further input.
            outputMayRemain_ = frameOpen_ && target.pos == target.size && target.pos > before;
        }
        if (target.pos < target.size && frameOpen_)
            throw InputError("{}: the zstd data ends in the middle of a frame; the file was probably cut short", name_);
        return target.pos;
    }

private:
    PlainStream compressed_;
    std::string name_;
    std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> context_;
    std::vector<char> input_;
    ZSTD_inBuffer pending_;
    bool frameOpen_ = false, outputMayRemain_ = false;
};

/// One gzip member after another.
class GzipStream : public TextStream {
public:
    explicit GzipStream(const std::filesystem::path& path)
        : compressed_(path), name_(path.string()), input_(std::size_t{1} << 17) {
        constexpr int kGzipWindow = 15 + 16;
        if (::inflateInit2(&state_, kGzipWindow) != Z_OK) throw RuntimeFault("{}: zlib has no memory", name_);
    }
    ~GzipStream() override { ::inflateEnd(&state_); }
    GzipStream(const GzipStream&) = delete;
    GzipStream& operator=(const GzipStream&) = delete;

    std::size_t read(std::span<char> out) override {
        std::size_t filled = 0;
        while (filled < out.size()) {
            if (state_.avail_in == 0) {
                state_.next_in = reinterpret_cast<Bytef*>(input_.data());
                state_.avail_in = static_cast<uInt>(compressed_.read(input_));
                if (state_.avail_in == 0 && memberOpen_)
                    throw InputError("{}: the gzip data ends in the middle; the file was probably cut short", name_);
                if (state_.avail_in == 0) break;
            }
            const auto room = static_cast<uInt>(std::min<std::size_t>(out.size() - filled, std::size_t{1} << 30));
            state_.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
            state_.avail_out = room;
            memberOpen_ = true;
            const int status = ::inflate(&state_, Z_NO_FLUSH);
            filled += room - state_.avail_out;
            if (status == Z_STREAM_END) {
                memberOpen_ = false;
                ::inflateReset(&state_);
            } else if (status != Z_OK) {
                throw InputError("{}: damaged gzip data: {}; fetch or compress the file again", name_,
                                 state_.msg != nullptr ? state_.msg : "no reason given");
            }
        }
        return filled;
    }

private:
    PlainStream compressed_;
    std::string name_;
    std::vector<char> input_;
    z_stream state_{};
    bool memberOpen_ = false;
};

bool isJsonSpace(int byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

}  // namespace

void TextStream::skip(std::uint64_t bytes) {
    std::vector<char> scrap(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, 1 << 20)));
    while (bytes > 0) {
        const std::size_t got = read(std::span(scrap).first(std::min<std::uint64_t>(scrap.size(), bytes)));
        if (got == 0) return;
        bytes -= got;
    }
}

std::unique_ptr<TextStream> openTextStream(const std::filesystem::path& path) {
    if (path.extension() == ".gz") return std::make_unique<GzipStream>(path);
    if (path.extension() == ".zst") return std::make_unique<ZstdStream>(path);
    return std::make_unique<PlainStream>(path);
}

bool LineReader::next(std::string& line) {
    line.clear();
    offset_ = nextOffset_;
    endedByBreak_ = false;
    while (true) {
        if (begin_ == end_) {
            begin_ = 0;
            end_ = stream_.read(buffer_);
            if (end_ == 0) break;
        }
        const char* from = buffer_.data() + begin_;
        const void* found = std::memchr(from, '\n', end_ - begin_);
        const char* until = found != nullptr ? static_cast<const char*>(found) : buffer_.data() + end_;
        line.append(from, until);
        begin_ = static_cast<std::size_t>(until - buffer_.data());
        if (found != nullptr) {
            ++begin_;
            endedByBreak_ = true;
            break;
        }
    }
    nextOffset_ = offset_ + line.size() + (endedByBreak_ ? 1 : 0);
    if (line.empty() && !endedByBreak_) return false;
    ++number_;
    return true;
}

int JsonListReader::peek() {
    if (begin_ == buffer_.size()) {
        begin_ = 0;
        buffer_.resize(std::size_t{1} << 20);
        buffer_.resize(stream_.read(buffer_));
    }
    return buffer_.empty() ? -1 : static_cast<unsigned char>(buffer_[begin_]);
}

int JsonListReader::peekBehindSpace() {
    while (isJsonSpace(peek())) take();
    return peek();
}

void JsonListReader::fail(const char* what) const {
    throw InputError("{}: not a JSON list: {} at byte {}, behind {} elements", name_, what, position_ + 1, number_);
}

bool JsonListReader::next(std::string& element) {
    if (number_ == 0 && !isOpen_) {
        if (peekBehindSpace() != '[') fail("it does not begin with '['");
        take();
        isOpen_ = true;
    }
    int byte = peekBehindSpace();
    if (byte == ',' && number_ > 0) {
        take();
        peekBehindSpace();
    } else if (byte == ']') {
        take();
        if (peekBehindSpace() != -1) fail("something follows it");
        return false;
    } else if (number_ > 0) {
        fail(byte == -1 ? "it ends in the middle" : "a comma is missing");
    }
    element.clear();
    offset_ = position_;
    bool inString = false, isEscaped = false;
    for (int depth = 0;; take()) {
        byte = peek();
        if (byte == -1) fail("it ends in the middle");
        if (depth == 0 && !inString && (byte == ',' || byte == ']')) break;
        element.push_back(static_cast<char>(byte));
        if (inString) {
            inString = isEscaped || byte != '"';
            isEscaped = !isEscaped && byte == '\\';
        } else if (byte == '"') {
            inString = true;
        } else if (byte == '{' || byte == '[') {
            ++depth;
        } else if (byte == '}' || byte == ']') {
            --depth;
        }
    }
    ++number_;
    return true;
}

}  // namespace aimerge
