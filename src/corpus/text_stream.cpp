#include "corpus/text_stream.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

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

    void skip(std::uint64_t bytes) override {
        std::vector<char> scrap(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, 1 << 20)));
        while (bytes > 0) {
            const std::size_t got = read(std::span(scrap).first(std::min<std::uint64_t>(scrap.size(), bytes)));
            if (got == 0) return;
            bytes -= got;
        }
    }

private:
    PlainStream compressed_;
    std::string name_;
    std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> context_;
    std::vector<char> input_;
    ZSTD_inBuffer pending_;
    bool frameOpen_ = false, outputMayRemain_ = false;
};

}  // namespace

std::unique_ptr<TextStream> openTextStream(const std::filesystem::path& path) {
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

}  // namespace aimerge
