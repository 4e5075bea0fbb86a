#include "pytorch/zip_archive.h"

#include "aimerge/core/error.h"
#include "aimerge/core/in_quotes.h"
#include "aimerge/pytorch/torch_file.h"
#include "aimerge/safetensors/safetensors.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

constexpr std::string_view kLocalHeader{"PK\3\4", 4}, kDirectoryEntry{"PK\1\2", 4}, kEnd{"PK\5\6", 4}, kEnd64{"PK\6\6", 4},
    kEnd64Locator{"PK\6\7", 4};
constexpr std::uint64_t kLocalHeaderBytes = 30, kDirectoryEntryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                        kEnd64LocatorBytes = 20;
constexpr std::uint64_t kIn64 = 0xFFFFFFFF;                                      // the value stands in a zip64 field
constexpr std::uint64_t kEncrypted = 0x2041, kLengthFollows = 0x8, kStored = 0;  // flags and method
constexpr std::uint64_t kZip64Field = 1;

std::uint64_t numberAt(std::string_view text, std::size_t position, std::size_t bytes) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < bytes; ++i)
        number |= std::uint64_t{static_cast<unsigned char>(text[position + i])} << (8 * i);
    return number;
}

/// Where the directory lies.
struct Directory {
    std::uint64_t begin = 0, bytes = 0, entries = 0;
};

/// An entry as the directory has it.
struct DirectoryEntry {
    std::string_view name;
    std::uint64_t flags = 0, method = 0, crc32 = 0, stored = 0, bytes = 0, header = 0;
};

class ZipReader {
public:
    explicit ZipReader(HeaderSource& source) : source_(source), fileName_(source.fileName()) {}

    std::vector<ZipEntry> read() {
        const Directory directory = findDirectory();
        const std::string text = source_.read(directory.begin, directory.bytes);
        std::string_view rest = text;
        std::vector<ZipEntry> entries;
        for (std::uint64_t i = 0; i < directory.entries; ++i)
            entries.push_back(placed(nextEntry(rest, directory), directory));
        if (!rest.empty()) fail("its directory has {} bytes more than its {} entries take", rest.size(), directory.entries);
        checkNames(entries);
        checkOverlaps();
        return entries;
    }

private:
    template <typename... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) const {
        throw InputError("{}: {}", fileName_, fmt::format(text, std::forward<Args>(args)...));
    }

    /// The end of the file says it; torch writes no comment behind.
    Directory findDirectory() {
        const std::uint64_t fileBytes = source_.fileBytes();
        if (fileBytes < kEndBytes) failCutShort();
        std::uint64_t end = fileBytes - kEndBytes;
        const std::string text = source_.read(end, kEndBytes);
        if (!text.starts_with(kEnd) || numberAt(text, 20, 2) != 0) failCutShort();
        Directory directory{numberAt(text, 16, 4), numberAt(text, 12, 4), numberAt(text, 10, 2)};
        std::uint64_t disks = std::max(numberAt(text, 4, 2), numberAt(text, 6, 2));
        const std::uint64_t here = numberAt(text, 8, 2);
        if (const std::string locator = locatorBefore(end); !locator.empty()) {
            end = numberAt(locator, 8, 8);
            if (numberAt(locator, 16, 4) > 1) fail("is one part of a split zip archive; fetch the whole file");
            directory = readEnd64(end, fileBytes - kEndBytes - kEnd64LocatorBytes);
            if (disks == 0xFFFF) disks = 0;
        } else if (here != directory.entries) {
            disks = 1;
        }
        if (disks != 0) fail("is one part of a split zip archive; fetch the whole file");
        std::uint64_t directoryEnd = 0;
        if (__builtin_add_overflow(directory.begin, directory.bytes, &directoryEnd) || directoryEnd != end)
            fail("its directory should have {} bytes from byte {} on and end at {}; the file is damaged", directory.bytes,
                 directory.begin, end);
        if (directory.bytes > kMaxHeaderBytes)
            fail("its directory has {} bytes, at most {} are allowed", directory.bytes, kMaxHeaderBytes);
        if (directory.entries > directory.bytes / kDirectoryEntryBytes)
            fail("its directory of {} bytes cannot have {} entries", directory.bytes, directory.entries);
        return directory;
    }

    [[noreturn]] void failCutShort() const {
        fail("does not end as a zip archive does; the download was probably cut short, fetch the file again");
    }

    std::string locatorBefore(std::uint64_t end) {
        if (end < kEnd64LocatorBytes) return {};
        std::string text = source_.read(end - kEnd64LocatorBytes, kEnd64LocatorBytes);
        return text.starts_with(kEnd64Locator) ? text : std::string();
    }

    Directory readEnd64(std::uint64_t begin, std::uint64_t end) {
        if (end < kEnd64Bytes || begin != end - kEnd64Bytes)
            fail(
                "its zip64 end of directory should be at byte {}, which is not just before its locator; the file is damaged",
                begin);
        const std::string text = source_.read(begin, kEnd64Bytes);
        if (!text.starts_with(kEnd64)) fail("has no zip64 end of directory at byte {}; the file is damaged", begin);
        if (numberAt(text, 16, 4) != 0 || numberAt(text, 20, 4) != 0 || numberAt(text, 24, 8) != numberAt(text, 32, 8))
            fail("is one part of a split zip archive; fetch the whole file");
        return {numberAt(text, 48, 8), numberAt(text, 40, 8), numberAt(text, 32, 8)};
    }

    DirectoryEntry nextEntry(std::string_view& rest, const Directory& directory) const {
        if (rest.size() < kDirectoryEntryBytes || !rest.starts_with(kDirectoryEntry))
            fail("its directory has no entry at byte {}; the file is damaged",
                 directory.begin + directory.bytes - rest.size());
        const std::uint64_t nameBytes = numberAt(rest, 28, 2), extraBytes = numberAt(rest, 30, 2);
        const std::uint64_t bytes = kDirectoryEntryBytes + nameBytes + extraBytes + numberAt(rest, 32, 2);
        if (bytes > rest.size()) fail("its directory is cut within an entry; the file is damaged");
        DirectoryEntry entry{rest.substr(kDirectoryEntryBytes, nameBytes),
                             numberAt(rest, 8, 2),
                             numberAt(rest, 10, 2),
                             numberAt(rest, 16, 4),
                             numberAt(rest, 20, 4),
                             numberAt(rest, 24, 4),
                             numberAt(rest, 42, 4)};
        readZip64Field(rest.substr(kDirectoryEntryBytes + nameBytes, extraBytes), entry);
        if (numberAt(rest, 34, 2) != 0) fail("is one part of a split zip archive; fetch the whole file");
        rest.remove_prefix(bytes);
        return entry;
    }

    /// Values that have no room in the entry stand in this field, in this order.
    void readZip64Field(std::string_view extra, DirectoryEntry& entry) const {
        std::string_view field;
        while (extra.size() >= 4) {
            const std::uint64_t kind = numberAt(extra, 0, 2), bytes = numberAt(extra, 2, 2);
            if (bytes > extra.size() - 4)
                fail("its entry {} has a cut extra field; the file is damaged", inQuotes(entry.name));
            if (kind == kZip64Field) field = extra.substr(4, bytes);
            extra.remove_prefix(4 + bytes);
        }
        for (std::uint64_t* value : {&entry.bytes, &entry.stored, &entry.header}) {
            if (*value != kIn64) continue;
            if (field.size() < 8) fail("its entry {} lacks its zip64 sizes; the file is damaged", inQuotes(entry.name));
            *value = numberAt(field, 0, 8);
            field.remove_prefix(8);
        }
    }

    void checkKept(std::string_view name, std::uint64_t flags, std::uint64_t method) const {
        if ((flags & kEncrypted) != 0) fail("its entry {} is encrypted; write the file without", inQuotes(name));
        if (method != kStored)
            fail(
                "its entry {} is compressed (method {}), expected an entry that is stored as it is, as torch.save writes "
                "it; "
                "fetch the original, or convert the file: {}",
                inQuotes(name), method, conversionCommand(fileName_));
    }

    /// Finds the data behind the entry's own header, which may be longer than the directory says.
    ZipEntry placed(const DirectoryEntry& entry, const Directory& directory) {
        checkKept(entry.name, entry.flags, entry.method);
        if (entry.stored != entry.bytes)
            fail("its entry {} has {} bytes and is stored in {}; the file is damaged", inQuotes(entry.name), entry.bytes,
                 entry.stored);
        const std::uint64_t headerBytes = kLocalHeaderBytes + entry.name.size();
        if (entry.header > directory.begin || headerBytes > directory.begin - entry.header)
            fail("its entry {} should begin at byte {}, but the directory begins at {}", inQuotes(entry.name), entry.header,
                 directory.begin);
        const std::string header = source_.read(entry.header, headerBytes);
        const std::uint64_t nameBytes = numberAt(header, 26, 2);
        if (!header.starts_with(kLocalHeader) || nameBytes != entry.name.size() ||
            !std::string_view(header).ends_with(entry.name))
            fail("has no entry {} at byte {}, where its directory says; the file is damaged", inQuotes(entry.name),
                 entry.header);
        checkKept(entry.name, numberAt(header, 6, 2), numberAt(header, 8, 2));
        const std::uint64_t bytes = numberAt(header, 22, 4);
        if ((numberAt(header, 6, 2) & kLengthFollows) == 0 && bytes != kIn64 && bytes != entry.bytes)
            fail("its entry {} has {} bytes, but its directory says {}; the file is damaged", inQuotes(entry.name), bytes,
                 entry.bytes);
        const std::uint64_t begin = entry.header + headerBytes + numberAt(header, 28, 2);
        if (begin > directory.begin || entry.bytes > directory.begin - begin)
            fail("its entry {} of {} bytes begins at byte {}, but the directory begins at {}", inQuotes(entry.name),
                 entry.bytes, begin, directory.begin);
        taken_.push_back({{entry.header, begin + entry.bytes}, std::string(entry.name)});
        return {std::string(entry.name), {begin, begin + entry.bytes}, static_cast<std::uint32_t>(entry.crc32)};
    }

    void checkNames(const std::vector<ZipEntry>& entries) const {
        std::vector<std::string_view> names;
        for (const ZipEntry& entry : entries) names.push_back(entry.name);
        std::sort(names.begin(), names.end());
        if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
            fail("has two entries of the name {}", inQuotes(*twice));
    }

    void checkOverlaps() {
        std::sort(taken_.begin(), taken_.end(),
                  [](const Taken& a, const Taken& b) { return a.bytes.begin < b.bytes.begin; });
        for (std::size_t i = 1; i < taken_.size(); ++i) {
            if (taken_[i].bytes.begin < taken_[i - 1].bytes.end)
                fail("its entries {} and {} overlap", inQuotes(taken_[i - 1].name), inQuotes(taken_[i].name));
        }
    }

    struct Taken {
        ByteRange bytes;  // header and data
        std::string name;
    };

    HeaderSource& source_;
    std::string fileName_;
    std::vector<Taken> taken_;
};

constexpr std::array<std::uint32_t, 256> crcTable() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
        table[i] = i;
        for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ ((table[i] & 1) != 0 ? 0xEDB88320u : 0u);
    }
    return table;
}

}  // namespace

bool beginsAsZip(std::string_view file) {
    return file.starts_with(kLocalHeader);
}

std::vector<ZipEntry> readZipArchive(HeaderSource& source) {
    return ZipReader(source).read();
}

std::uint32_t crc32Of(std::string_view bytes) {
    static constexpr std::array<std::uint32_t, 256> kTable = crcTable();
    std::uint32_t crc = 0xFFFFFFFF;
    for (const char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
    return ~crc;
}

}  // namespace aimerge
