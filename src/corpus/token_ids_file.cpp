#include "corpus/token_ids_file.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/safetensors/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace aimerge {
namespace {

static_assert(std::endian::native == std::endian::little, "ids are read as they lie in the file");

/// Where the ids lie in a file and how.
struct IdArray {
    Dtype dtype = Dtype::I64;
    Shape shape;
    ByteRange bytes;
};

IdArray findInSafetensors(const std::filesystem::path& path) {
    const SafetensorsHeader header = readSafetensorsHeader(path);
    for (const TensorInfo& tensor : header.tensors)
        if (tensor.name == "input_ids") return {tensor.dtype, tensor.shape, tensor.bytes};
    throw InputError(
        "{}: the tensor 'input_ids' (int64 or int32, [blocks, length]) is missing; the file has {} other tensors",
        path.string(), header.tensors.size());
}

/// The text behind `'key':` in the header of a .npy file, a Python dictionary written in one fixed way.
std::string_view npyField(std::string_view header, std::string_view key, const std::filesystem::path& path) {
    const std::string quoted = fmt::format("'{}':", key);
    const std::size_t found = header.find(quoted);
    if (found == std::string_view::npos) throw InputError("{}: the .npy header has no key '{}'", path.string(), key);
    std::string_view rest = header.substr(found + quoted.size());
    return rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
}

Shape npyShape(std::string_view text, const std::filesystem::path& path) {
    Shape shape;
    const std::size_t close = text.find(')');
    if (!text.starts_with('(') || close == std::string_view::npos)
        throw InputError("{}: the shape in the .npy header cannot be read", path.string());
    const char* at = text.data() + 1;
    const char* end = text.data() + close;
    while (at != end) {
        if (*at == ' ' || *at == ',') {
            ++at;
            continue;
        }
        std::int64_t dimension = 0;
        const auto [stop, error] = std::from_chars(at, end, dimension);
        if (error != std::errc{} || dimension < 0)
            throw InputError("{}: the shape in the .npy header cannot be read", path.string());
        shape.push_back(dimension);
        at = stop;
    }
    return shape;
}

Dtype npyDtype(std::string_view text, const std::filesystem::path& path) {
    if (text.starts_with("'<i8'")) return Dtype::I64;
    if (text.starts_with("'<i4'")) return Dtype::I32;
    throw InputError("{}: its dtype is {}, expected '<i8' or '<i4' (little-endian int64 or int32)", path.string(),
                     text.substr(0, text.find(',')));
}

IdArray findInNpy(const std::filesystem::path& path) {
    constexpr std::string_view kMagic = "\x93NUMPY";
    const File file = File::openForReading(path);
    std::array<unsigned char, 12> start{};
    if (file.size() < start.size()) throw InputError("{}: too short for a .npy file", path.string());
    file.readAt(0, std::as_writable_bytes(std::span(start)));
    const unsigned version = start[6];
    if (std::memcmp(start.data(), kMagic.data(), kMagic.size()) != 0 || version < 1 || version > 3)
        throw InputError("{}: not a .npy file of format 1, 2 or 3", path.string());
    const std::uint64_t headerBegin = version == 1 ? 10 : 12;
    std::uint64_t headerBytes = start[8] | (std::uint64_t{start[9]} << 8);
    if (version > 1) headerBytes |= (std::uint64_t{start[10]} << 16) | (std::uint64_t{start[11]} << 24);
    if (headerBegin + headerBytes > file.size())
        throw InputError("{}: the .npy header of {} bytes is longer than the file", path.string(), headerBytes);
    std::string header(headerBytes, '\0');
    file.readAt(headerBegin, std::as_writable_bytes(std::span(header)));
    if (npyField(header, "fortran_order", path).starts_with("True"))
        throw InputError("{}: the array is in Fortran order; save numpy.ascontiguousarray of it", path.string());
    return {npyDtype(npyField(header, "descr", path), path),
            npyShape(npyField(header, "shape", path), path),
            {headerBegin + headerBytes, file.size()}};
}

void requireBlocks(const IdArray& array, const std::filesystem::path& path) {
    if (array.dtype != Dtype::I64 && array.dtype != Dtype::I32)
        throw InputError("{}: token ids are {}, expected int64 or int32", path.string(), torchName(array.dtype));
    if (array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < 1)
        throw InputError("{}: token ids have shape {}, expected [blocks, length] with at least one of each", path.string(),
                         shapeText(array.shape));
    // Divided, not multiplied: the dimensions of a .npy header are not checked against the file before.
    const std::uint64_t elements = array.bytes.size() / bytesPerElement(array.dtype);
    const auto blocks = static_cast<std::uint64_t>(array.shape[0]), length = static_cast<std::uint64_t>(array.shape[1]);
    if (array.bytes.size() % bytesPerElement(array.dtype) != 0 || elements / blocks != length || elements % blocks != 0)
        throw InputError("{}: token ids of shape {} do not fit the {} bytes of data; the file was probably cut short",
                         path.string(), shapeText(array.shape), array.bytes.size());
}

template <typename T>
void readIds(const File& file, const IdArray& array, std::int64_t vocabSize, TokenBlocks& blocks) {
    std::vector<T> raw(static_cast<std::size_t>(blocks.blocks * blocks.length));
    file.readAt(array.bytes.begin, std::as_writable_bytes(std::span(raw)));
    blocks.ids.reserve(raw.size());
    for (std::size_t index = 0; index < raw.size(); ++index) {
        if (raw[index] < 0 || raw[index] >= vocabSize)
            throw InputError("{}: block {}, position {}: the token id {} is outside the model's vocabulary (0 to {})",
                             file.path().string(), index / static_cast<std::size_t>(blocks.length),
                             index % static_cast<std::size_t>(blocks.length), raw[index], vocabSize - 1);
        blocks.ids.push_back(static_cast<std::int32_t>(raw[index]));
    }
}

}  // namespace

TokenBlocks readTokenIds(const std::filesystem::path& path, std::int64_t vocabSize) {
    const std::string extension = path.extension().string();
    if (extension != ".safetensors" && extension != ".npy")
        throw InputError("{}: ready token ids are a .safetensors or .npy file", path.string());
    const IdArray array = extension == ".npy" ? findInNpy(path) : findInSafetensors(path);
    requireBlocks(array, path);
    TokenBlocks blocks{.blocks = array.shape[0], .length = array.shape[1], .ids = {}, .unusedTokens = 0};
    const File file = File::openForReading(path);
    if (array.dtype == Dtype::I64) {
        readIds<std::int64_t>(file, array, vocabSize, blocks);
    } else {
        readIds<std::int32_t>(file, array, vocabSize, blocks);
    }
    return blocks;
}

}  // namespace aimerge
