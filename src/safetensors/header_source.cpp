#include "aimerge/safetensors/header_source.h"

namespace aimerge {

std::string HeaderSource::read(std::uint64_t offset, std::uint64_t bytes) {
    std::string text(bytes, '\0');
    file_.readAt(offset, std::as_writable_bytes(std::span(text)));
    ranges_.push_back({offset, offset + bytes});
    hasher_.update(std::as_bytes(std::span(text)));
    return text;
}

}  // namespace aimerge
