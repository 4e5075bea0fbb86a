#include "corpus/token_ids_file.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using Ids64 = std::vector<std::int64_t>;
using Ids32 = std::vector<std::int32_t>;

const TokenBlocks kExpected{.blocks = 2, .length = 3, .ids = {1, 2, 3, 4, 5, 6}};

/// The bytes numpy.save writes.
std::string npy(const std::string& dictionary, const std::string& data, int version = 1) {
    const std::size_t lengthBytes = version == 1 ? 2 : 4;
    std::string header = dictionary;
    while ((8 + lengthBytes + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    std::string text = "\x93NUMPY";
    text += static_cast<char>(version);
    text += '\0';
    for (std::size_t byte = 0; byte < lengthBytes; ++byte) text += static_cast<char>(header.size() >> (8 * byte) & 0xFF);
    return text + header + data;
}

TEST(TokenIdsFile, ReadsInt64AndInt32Safetensors) {
    const TempFolder folder;
    SafetensorsBuilder()
        .add("input_ids", "I64", {2, 3}, bytesOf<std::int64_t>({1, 2, 3, 4, 5, 6}))
        .write(folder / "a.safetensors");
    SafetensorsBuilder()
        .add("other", "F32", {1}, bytesOf<float>({1}))
        .add("input_ids", "I32", {2, 3}, bytesOf<std::int32_t>({1, 2, 3, 4, 5, 6}))
        .write(folder / "b.safetensors");

    EXPECT_EQ(readTokenIds(folder / "a.safetensors", 7), kExpected);
    EXPECT_EQ(readTokenIds(folder / "b.safetensors", 7), kExpected);
}

TEST(TokenIdsFile, ReadsNpyOfEveryFormat) {
    const TempFolder folder;
    writeBytes(folder / "1.npy",
               npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }", bytesOf(Ids64{1, 2, 3, 4, 5, 6})));
    writeBytes(folder / "2.npy",
               npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", bytesOf(Ids32{1, 2, 3, 4, 5, 6}), 2));
    writeBytes(folder / "3.npy",
               npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", bytesOf(Ids32{1, 2, 3, 4, 5, 6}), 3));

    for (const char* name : {"1.npy", "2.npy", "3.npy"}) EXPECT_EQ(readTokenIds(folder / name, 7), kExpected) << name;
}

struct BadIds {
    const char* file;
    std::function<void(const std::filesystem::path&)> write;
    const char* message;
};

std::function<void(const std::filesystem::path&)> safetensors(const char* name, const char* dtype,
                                                              std::vector<std::int64_t> shape, std::string bytes) {
    return [=](const std::filesystem::path& path) { SafetensorsBuilder().add(name, dtype, shape, bytes).write(path); };
}

std::function<void(const std::filesystem::path&)> bytes(std::string text) {
    return [=](const std::filesystem::path& path) { writeBytes(path, text); };
}

class TokenIdsOfBadFile : public testing::TestWithParam<BadIds> {};

TEST_P(TokenIdsOfBadFile, IsAnInputError) {
    const TempFolder folder;
    GetParam().write(folder / GetParam().file);
    try {
        readTokenIds(folder / GetParam().file, 7);
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().file));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, TokenIdsOfBadFile,
    testing::Values(
        BadIds{"a.bin", bytes("x"), ".safetensors or .npy"},
        BadIds{"a.safetensors", safetensors("ids", "I64", {1, 1}, bytesOf(Ids64{1})), "'input_ids'"},
        BadIds{"a.safetensors", safetensors("input_ids", "F32", {1, 1}, bytesOf<float>({1})),
               "float32, expected int64 or int32"},
        BadIds{"a.safetensors", safetensors("input_ids", "I64", {2}, bytesOf(Ids64{1, 2})),
               "shape [2], expected [blocks, length]"},
        BadIds{"a.safetensors", safetensors("input_ids", "I64", {0, 4}, ""), "shape [0, 4]"},
        BadIds{"a.safetensors", safetensors("input_ids", "I64", {2, 2}, bytesOf(Ids64{1, 2, 3, 7})),
               "block 1, position 1: the token id 7 is outside the model's vocabulary (0 to 6)"},
        BadIds{"a.safetensors", safetensors("input_ids", "I64", {1, 2}, bytesOf(Ids64{1, -1})),
               "block 0, position 1: the token id -1"},
        BadIds{"a.safetensors", safetensors("input_ids", "I64", {1, 1}, bytesOf(Ids64{std::int64_t{1} << 32})),
               "token id 4294967296"},
        BadIds{"a.npy", bytes("short"), "too short"}, BadIds{"a.npy", bytes("this is not numpy"), "not a .npy file"},
        BadIds{"a.npy", bytes(std::string("\x93NUMPY\x01\x00\xff\xff{}{}", 12)), "longer than the file"},
        BadIds{"a.npy", bytes(npy("{'descr': '>i8', 'fortran_order': False, 'shape': (1, 1), }", bytesOf(Ids64{1}))),
               "dtype is '>i8'"},
        BadIds{"a.npy", bytes(npy("{'descr': '<i8', 'fortran_order': True, 'shape': (1, 1), }", bytesOf(Ids64{1}))),
               "Fortran order"},
        BadIds{"a.npy", bytes(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", bytesOf(Ids64{1, 2, 3}))),
               "shape [3]"},
        BadIds{"a.npy", bytes(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 2), }", bytesOf(Ids64{1, 2, 3}))),
               "do not fit the 24 bytes"},
        BadIds{
            "a.npy",
            bytes(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", bytesOf(Ids64{1}))),
            "do not fit the 8 bytes"},
        BadIds{"a.npy", bytes(npy("{'descr': '<i8', 'shape': (1, 1), }", bytesOf(Ids64{1}))), "no key 'fortran_order'"}));

}  // namespace
}  // namespace aimerge
