#pragma once
// The directory of a zip archive whose entries are stored as they are, so that each has its place in the file. PKWARE's
// APPNOTE.TXT 6.3 has the format, with zip64.

#include "aimerge/core/byte_range.h"
#include "aimerge/safetensors/header_source.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct ZipEntry {
    std::string name;
    ByteRange bytes;          // of its data in the file
    std::uint32_t crc32 = 0;  // 0 where the writer did not compute it
};

bool beginsAsZip(std::string_view file);

/// Entries in the order of the directory, with distinct names and no byte in common. Reads the directory and the header of
/// every entry. @throws InputError naming file and entry
std::vector<ZipEntry> readZipArchive(HeaderSource& source);

std::uint32_t crc32Of(std::string_view bytes);

}  // namespace aimerge
