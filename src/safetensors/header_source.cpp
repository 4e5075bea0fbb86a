#include "aimerge/safetensors/header_source.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <string_view>

namespace aimerge {

std::string HeaderSource::readBeginning() {
    constexpr std::string_view kLfsPointer = "version https://git-lfs";
    std::string beginning = read(0, std::min<std::uint64_t>(fileBytes_, kLfsPointer.size()));
    if (beginning == kLfsPointer)
        throw InputError("{}: is a git-lfs pointer instead of the weights; run `git lfs pull` in its folder", fileName());
    return beginning;
}

std::string HeaderSource::read(std::uint64_t offset, std::uint64_t bytes) {
    std::string text(bytes, '\0');
    file_.readAt(offset, std::as_writable_bytes(std::span(text)));
    ranges_.push_back({offset, offset + bytes});
    hasher_.update(std::as_bytes(std::span(text)));
    return text;
}

}  // namespace aimerge
