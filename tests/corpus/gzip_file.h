#pragma once

#include <zlib.h>

#include <string>

namespace aimerge {

/// One gzip member.
inline std::string gzipOf(const std::string& text) {
    z_stream state{};
    constexpr int kGzipWindow = 15 + 16, kMemory = 8;
    if (::deflateInit2(&state, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, kMemory, Z_DEFAULT_STRATEGY) != Z_OK)
        return {};
    std::string bytes(::deflateBound(&state, text.size()), '\0');
    state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    state.avail_in = static_cast<uInt>(text.size());
    state.next_out = reinterpret_cast<Bytef*>(bytes.data());
    state.avail_out = static_cast<uInt>(bytes.size());
    ::deflate(&state, Z_FINISH);
    bytes.resize(state.total_out);
    ::deflateEnd(&state);
    return bytes;
}

}  // namespace aimerge
