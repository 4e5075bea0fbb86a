#pragma once
// Writes .zst files for tests.

#include "support/safetensors_builder.h"

#include <zstd.h>

#include <filesystem>
#include <string>

namespace aimerge {

inline std::string zstdOf(const std::string& text) {
    std::string compressed(ZSTD_compressBound(text.size()), '\0');
    compressed.resize(ZSTD_compress(compressed.data(), compressed.size(), text.data(), text.size(), 3));
    return compressed;
}

inline void writeZstd(const std::filesystem::path& path, const std::string& text) {
    writeBytes(path, zstdOf(text));
}

}  // namespace aimerge
