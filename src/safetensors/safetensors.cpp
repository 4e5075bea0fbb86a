#include "aimerge/safetensors/safetensors.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/in_quotes.h"
#include "aimerge/safetensors/header_source.h"
#include "safetensors/safetensors_json.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace aimerge {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kShownBytes = 16;  // of a file that is something else
constexpr std::uint64_t kLargestInt64 = std::numeric_limits<std::int64_t>::max();

[[noreturn]] void throwCutShort(const std::string& fileName, std::uint64_t present, std::uint64_t needed) {
    const double percent = 100.0 * static_cast<double>(needed - present) / static_cast<double>(needed);
    throw InputError(
        "{}: data ends at byte {}, the header needs {} ({} bytes, {:.2g}% missing); the download was probably cut "
        "short, fetch the file again",
        fileName, present, needed, needed - present, percent);
}

Dtype dtypeOf(const TensorEntry& entry, const std::string& fileName) {
    if (const auto dtype = dtypeFromSafetensorsName(entry.dtype)) return *dtype;
    throw InputError("{}: tensor {} has the unknown dtype {}", fileName, entry.name, entry.dtype);
}

/// The shape, of which no product of dimensions overflows: zeros are left out of the product that is checked, so that later
/// products of some of the dimensions are safe too.
Shape shapeOf(const TensorEntry& entry, const std::string& fileName) {
    Shape shape;
    shape.reserve(entry.shape.size());
    std::int64_t product = 1;
    for (const std::uint64_t dimension : entry.shape) {
        const bool fits =
            dimension <= kLargestInt64 &&
            (dimension == 0 || !__builtin_mul_overflow(product, static_cast<std::int64_t>(dimension), &product));
        if (!fits) throw InputError("{}: tensor {} has a shape of more than 2^63-1 elements", fileName, entry.name);
        shape.push_back(static_cast<std::int64_t>(dimension));
    }
    return shape;
}

/// What the entry says, with `bytes` still relative to the data.
TensorInfo tensorOf(const TensorEntry& entry, const std::string& fileName) {
    TensorInfo tensor;
    tensor.name = entry.name;
    tensor.dtype = dtypeOf(entry, fileName);
    tensor.shape = shapeOf(entry, fileName);
    const auto [begin, end] = entry.dataOffsets;
    if (begin > end)
        throw InputError("{}: tensor {} begins at byte {} of the data and ends before it, at {}", fileName, entry.name,
                         begin, end);
    // Eight elements take as many bytes as one has bits.
    const auto elements = static_cast<std::uint64_t>(tensor.elements());
    const std::uint64_t bits = bitsPerElement(tensor.dtype), bitsOfRest = elements % 8 * bits;
    if (bitsOfRest % 8 != 0)
        throw InputError("{}: tensor {} has shape {} of {}, which ends within a byte", fileName, entry.name,
                         shapeText(tensor.shape), entry.dtype);
    std::uint64_t needed = 0;
    const bool overflows =
        __builtin_mul_overflow(elements / 8, bits, &needed) || __builtin_add_overflow(needed, bitsOfRest / 8, &needed);
    if (overflows || needed != end - begin)
        throw InputError("{}: tensor {} has {} bytes of data, but shape {} of {} takes {}", fileName, entry.name,
                         end - begin, shapeText(tensor.shape), entry.dtype,
                         overflows ? "more than 2^64" : std::to_string(needed));
    tensor.bytes = {begin, end};
    return tensor;
}

/// Every byte of the data belongs to one tensor. Tensors without bytes may stand at any border.
void checkCoverage(const std::vector<TensorInfo>& tensors, std::uint64_t dataBegin, std::uint64_t dataBytes,
                   const std::string& fileName) {
    std::uint64_t covered = 0;
    const TensorInfo* last = nullptr;
    for (const TensorInfo& tensor : tensors) {
        const auto [begin, end] = tensor.bytes;
        if (begin < covered)
            throw InputError("{}: tensors {} and {} overlap: one ends at byte {} of the data, the other begins at {}",
                             fileName, last->name, tensor.name, covered, begin);
        if (begin > covered)
            throw InputError("{}: bytes {}-{} of the data, before tensor {}, belong to no tensor", fileName, covered, begin,
                             tensor.name);
        covered = end;
        last = &tensor;
    }
    std::uint64_t needed = 0;
    if (__builtin_add_overflow(dataBegin, covered, &needed))
        throw InputError("{}: tensor {} ends at byte {} of the data, no file is as long", fileName, last->name, covered);
    if (covered > dataBytes) throwCutShort(fileName, dataBegin + dataBytes, needed);
    if (covered < dataBytes)
        throw InputError("{}: {} bytes follow the last tensor, which ends at byte {}; fetch the file again", fileName,
                         dataBytes - covered, needed);
}

std::uint64_t readHeaderLength(HeaderSource& source) {
    const std::string fileName = source.fileName();
    const std::uint64_t fileBytes = source.fileBytes();
    const std::string beginning = source.readBeginning();
    if (fileBytes < kLengthBytes)
        throw InputError(
            "{}: has {} bytes, a safetensors file has at least {} for the length of its header; the download was "
            "probably cut short, fetch the file again",
            fileName, fileBytes, kLengthBytes);
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i)
        length |= std::uint64_t{static_cast<unsigned char>(beginning[i])} << (8 * i);
    if (length > kMaxHeaderBytes)
        throw InputError(
            "{}: the header length field says {} bytes, at most {} are allowed; this is not a safetensors file, or its "
            "beginning is damaged: it begins with {}",
            fileName, length, kMaxHeaderBytes, inQuotes(beginning.substr(0, kShownBytes)));
    if (length > fileBytes - kLengthBytes)
        throw InputError(
            "{}: the header should have {} bytes, but the file ends after {} of them; the download was probably cut "
            "short, fetch the file again",
            fileName, length, fileBytes - kLengthBytes);
    return length;
}

}  // namespace

std::int64_t elementCount(const Shape& shape) {
    std::int64_t count = 1;
    for (const std::int64_t dimension : shape) count *= dimension;
    return count;
}

std::string shapeText(const Shape& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsHeader parseSafetensorsHeader(std::string_view json, std::uint64_t dataBytes, const std::string& fileName) {
    SafetensorsJson parsed = readSafetensorsJson(json, fileName);
    SafetensorsHeader header;
    header.metadata = std::move(parsed.metadata);
    header.dataBegin = kLengthBytes + json.size();
    header.tensors.reserve(parsed.tensors.size());
    for (const TensorEntry& entry : parsed.tensors) header.tensors.push_back(tensorOf(entry, fileName));
    std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return std::tie(a.bytes.begin, a.bytes.end, a.name) < std::tie(b.bytes.begin, b.bytes.end, b.name);
    });
    checkCoverage(header.tensors, header.dataBegin, dataBytes, fileName);
    for (TensorInfo& tensor : header.tensors) {
        tensor.bytes.begin += header.dataBegin;
        tensor.bytes.end += header.dataBegin;
    }
    return header;
}

SafetensorsHeader readSafetensorsHeader(const std::filesystem::path& path) {
    return readSafetensorsHeader(File::openForReading(path));
}

SafetensorsHeader readSafetensorsHeader(const File& file) {
    HeaderSource source(file);
    return readSafetensorsHeader(source);
}

SafetensorsHeader readSafetensorsHeader(HeaderSource& source) {
    const std::string json = source.read(kLengthBytes, readHeaderLength(source));
    return parseSafetensorsHeader(json, source.fileBytes() - kLengthBytes - json.size(), source.fileName());
}

}  // namespace aimerge
