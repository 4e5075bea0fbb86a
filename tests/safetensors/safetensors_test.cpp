#include "aimerge/safetensors/safetensors.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;
using testing::UnorderedElementsAre;

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
    const std::string json = R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"__metadata__":{"format":"pt"}})";

    const SafetensorsHeader header = parseSafetensorsHeader(json, 16, "f");

    ASSERT_EQ(header.tensors.size(), 2u);
    EXPECT_EQ(header.tensors[0].name, "a");
    EXPECT_EQ(header.tensors[0].dtype, Dtype::F32);
    EXPECT_EQ(header.tensors[0].shape, Shape{});
    EXPECT_EQ(header.tensors[1].name, "b");
    EXPECT_EQ(header.tensors[1].dtype, Dtype::BF16);
    EXPECT_EQ(header.tensors[1].shape, (Shape{2, 3}));
    EXPECT_EQ(header.dataBegin, 8 + json.size());
    EXPECT_EQ(header.tensors[1].bytes, (ByteRange{header.dataBegin + 4, header.dataBegin + 16}));
    EXPECT_THAT(header.metadata, UnorderedElementsAre(Pair("format", "pt")));
}

TEST(Safetensors, ReadsWhatTheFormatAllows) {
    const struct {
        std::string what, json;
        std::uint64_t dataBytes;
        std::size_t tensors;
    } rows[] = {
        {"no tensors", "{}", 0, 0},
        {"only metadata", R"({"__metadata__":{}})", 0, 0},
        {"padding", "{}      ", 0, 0},
        {"no elements", R"({"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}})", 0, 1},
        {"two without elements at one place",
         R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[2,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
         R"("c":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}})",
         2, 3},
        {"a name with escapes", R"({"\u00e9\"\\":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, 1},
        {"an empty name", R"({"":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", 1, 1},
        {"other order of keys", R"({"a":{"data_offsets":[0,8],"shape":[1],"dtype":"I64"}})", 8, 1},
    };
    for (const auto& row : rows)
        EXPECT_EQ(parseSafetensorsHeader(row.json, row.dataBytes, "f").tensors.size(), row.tensors) << row.what;
}

/// {"a": entry}
std::string oneTensor(const std::string& entry) {
    return R"({"a":)" + entry + "}";
}

std::string entryOf(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string shapeOfOnes(int dimensions) {
    std::string shape = "[1";
    for (int i = 1; i < dimensions; ++i) shape += ",1";
    return shape + "]";
}

TEST(Safetensors, RejectsHeadersThatBreakARule) {
    const std::string u8 = "\"U8\"";
    const struct {
        std::string what, json, message;
    } rows[] = {
        {"empty", "", "does not begin with '{'"},
        {"blank first", " {}", "does not begin with '{'"},
        {"a list", "[]", "does not begin with '{'"},
        {"not JSON", "{nonsense}", "not valid JSON at byte 3 of the header"},
        {"cut", R"({"a":{"dtype":"U8")", "not valid JSON"},
        {"two objects", "{}{}", "not valid JSON at byte 3"},
        {"text after it", "{} x", "not valid JSON"},
        {"NUL padding", std::string("{}\0\0", 4), "not valid JSON at byte 2 of the header: a NUL byte"},
        {"comment", "{/* */}", "not valid JSON"},
        {"trailing comma", R"({"__metadata__":{"a":"b",}})", "not valid JSON"},
        {"UTF-8 cut", "{\"\xC3\":1}", "not valid JSON"},
        {"UTF-8 overlong", "{\"\xC0\x80\":1}", "not valid JSON"},
        {"UTF-8 surrogate", "{\"\xED\xA0\x80\":1}", "not valid JSON"},
        {"lone escaped surrogate", R"({"\ud800":1})", "not valid JSON"},
        {"line break in a name", "{\"a\nb\":1}", "not valid JSON"},
        {"tensor twice", R"({"a":)" + entryOf(u8, "[1]", "[0,1]") + R"(,"a":)" + entryOf(u8, "[1]", "[0,1]") + "}",
         "tensor a is listed twice"},
        {"key twice", oneTensor(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})"),
         "tensor a has the key dtype twice"},
        {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ is written twice"},
        {"metadata key twice", R"({"__metadata__":{"k":"1","k":"2"}})", "__metadata__ has the key k twice"},
        {"metadata a list", R"({"__metadata__":[]})", "__metadata__ is a list, expected an object"},
        {"metadata a string", R"({"__metadata__":"pt"})", "__metadata__ is a string, expected an object"},
        {"metadata number", R"({"__metadata__":{"k":1}})", "__metadata__.k is a number, expected a string"},
        {"metadata null", R"({"__metadata__":{"k":null}})", "__metadata__.k is null, expected a string"},
        {"metadata object", R"({"__metadata__":{"k":{}}})", "__metadata__.k is an object, expected a string"},
        {"tensor a number", oneTensor("1"), "tensor a is a number, expected an object"},
        {"tensor a list", oneTensor("[]"), "tensor a is a list, expected an object"},
        {"tensor null", oneTensor("null"), "tensor a is null, expected an object"},
        {"no dtype", oneTensor(R"({"shape":[1],"data_offsets":[0,1]})"), "tensor a has no dtype"},
        {"no shape", oneTensor(R"({"dtype":"U8","data_offsets":[0,1]})"), "tensor a has no shape"},
        {"no offsets", oneTensor(R"({"dtype":"U8","shape":[1]})"), "tensor a has no data_offsets"},
        {"unknown key", oneTensor(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"scale":2})"),
         "tensor a has the unknown key scale"},
        {"dtype a number", oneTensor(entryOf("8", "[1]", "[0,1]")), "dtype of tensor a is a number, expected a string"},
        {"dtype a list", oneTensor(entryOf("[]", "[1]", "[0,1]")), "dtype of tensor a is a list, expected a string"},
        {"unknown dtype", oneTensor(entryOf("\"F12\"", "[1]", "[0,1]")), "tensor a has the unknown dtype F12"},
        {"torch's dtype name", oneTensor(entryOf("\"float32\"", "[1]", "[0,4]")), "tensor a has the unknown dtype float32"},
        {"shape a number", oneTensor(entryOf(u8, "1", "[0,1]")), "shape of tensor a is a number, expected a list"},
        {"shape a string", oneTensor(entryOf(u8, "\"1\"", "[0,1]")), "shape of tensor a is a string, expected a list"},
        {"shape of strings", oneTensor(entryOf(u8, "[\"1\"]", "[0,1]")),
         "shape of tensor a is a string, expected a whole number"},
        {"shape nested", oneTensor(entryOf(u8, "[[1]]", "[0,1]")), "shape of tensor a is a list, expected a whole number"},
        {"dimension negative", oneTensor(entryOf(u8, "[-1]", "[0,1]")), "shape of tensor a has -1, expected whole numbers"},
        {"dimension -0", oneTensor(entryOf(u8, "[-0]", "[0,0]")), "expected whole numbers"},
        {"dimension a fraction", oneTensor(entryOf(u8, "[1.5]", "[0,1]")),
         "shape of tensor a has 1.5, expected whole numbers"},
        {"dimension 1.0", oneTensor(entryOf(u8, "[1.0]", "[0,1]")), "shape of tensor a has 1.0, expected whole numbers"},
        {"dimension of 64 bits", oneTensor(entryOf(u8, "[9223372036854775808]", "[0,1]")), "more than 2^63-1 elements"},
        {"dimension of 65 bits", oneTensor(entryOf(u8, "[18446744073709551616]", "[0,1]")),
         "expected whole numbers from 0 to 2^63-1"},
        {"product overflows", oneTensor(entryOf(u8, "[4294967296,4294967296]", "[0,0]")), "more than 2^63-1 elements"},
        {"product overflows beside a zero", oneTensor(entryOf(u8, "[4294967296,4294967296,0]", "[0,0]")),
         "more than 2^63-1 elements"},
        {"half a byte", oneTensor(entryOf("\"F4\"", "[3]", "[0,2]")),
         "tensor a has shape [3] of F4, which ends within a byte"},
        {"six bits", oneTensor(entryOf("\"F6_E3M2\"", "[2,5]", "[0,8]")),
         "tensor a has shape [2, 5] of F6_E3M2, which ends within a byte"},
        {"too many packed bytes", oneTensor(entryOf("\"F4\"", "[4]", "[0,4]")),
         "tensor a has 4 bytes of data, but shape [4] of F4 takes 2"},
        {"bytes overflow", oneTensor(entryOf("\"F64\"", "[2305843009213693952]", "[0,0]")), "takes more than 2^64"},
        {"65 dimensions", oneTensor(entryOf(u8, shapeOfOnes(65), "[0,1]")), "more than 64 dimensions"},
        {"too few bytes", oneTensor(entryOf("\"F32\"", "[2,3]", "[0,20]")),
         "tensor a has 20 bytes of data, but shape [2, 3] of F32 takes 24"},
        {"too many bytes", oneTensor(entryOf("\"BF16\"", "[3]", "[0,8]")),
         "tensor a has 8 bytes of data, but shape [3] of BF16 takes 6"},
        {"one offset", oneTensor(entryOf(u8, "[1]", "[0]")), "data_offsets of tensor a has 1 numbers, expected 2"},
        {"three offsets", oneTensor(entryOf(u8, "[1]", "[0,1,2]")), "data_offsets of tensor a has 3 numbers, expected 2"},
        {"no offset numbers", oneTensor(entryOf(u8, "[1]", "[]")), "data_offsets of tensor a has 0 numbers, expected 2"},
        {"offset negative", oneTensor(entryOf(u8, "[1]", "[-1,0]")), "data_offsets of tensor a has -1"},
        {"offset a string", oneTensor(entryOf(u8, "[1]", "[\"0\",1]")), "data_offsets of tensor a is a string"},
        {"end before begin", oneTensor(entryOf(u8, "[1]", "[2,1]")),
         "tensor a begins at byte 2 of the data and ends before it, at 1"},
        {"end without bound", oneTensor(entryOf(u8, "[9223372036854775807]", "[18446744073709551615,9223372036854775806]")),
         "ends before it"},
        {"hole at the beginning", oneTensor(entryOf(u8, "[7]", "[1,8]")),
         "bytes 0-1 of the data, before tensor a, belong to no tensor"},
        {"hole", R"({"a":)" + entryOf(u8, "[3]", "[0,3]") + R"(,"b":)" + entryOf(u8, "[4]", "[4,8]") + "}",
         "bytes 3-4 of the data, before tensor b, belong to no tensor"},
        {"overlap", R"({"a":)" + entryOf(u8, "[5]", "[0,5]") + R"(,"b":)" + entryOf(u8, "[4]", "[4,8]") + "}",
         "tensors a and b overlap: one ends at byte 5 of the data, the other begins at 4"},
        {"the same bytes twice", R"({"a":)" + entryOf(u8, "[8]", "[0,8]") + R"(,"b":)" + entryOf(u8, "[8]", "[0,8]") + "}",
         "tensors a and b overlap"},
        {"nothing inside another", R"({"a":)" + entryOf(u8, "[8]", "[0,8]") + R"(,"b":)" + entryOf(u8, "[0]", "[4,4]") + "}",
         "tensors a and b overlap"},
        {"more than the file has", oneTensor(entryOf(u8, "[10]", "[0,10]")), "2 bytes"},
        {"less than the file has", oneTensor(entryOf(u8, "[7]", "[0,7]")), "1 bytes follow the last tensor"},
        {"beyond 64 bits", oneTensor(entryOf(u8, "[9223372036854775807]", "[0,9223372036854775807]")), "data ends at byte"},
        {"no tensors for the data", "{}", "8 bytes follow the last tensor"},
        {"deep", std::string(100000, '{'), "not valid JSON"},
        {"deep lists", R"({"a":)" + std::string(100000, '['), "tensor a is a list, expected an object"},
    };
    for (const auto& row : rows) {
        const std::string message = messageOf<InputError>([&] { parseSafetensorsHeader(row.json, 8, "dir/x.safetensors"); });

        EXPECT_THAT(message, AllOf(StartsWith("dir/x.safetensors: "), HasSubstr(row.message))) << row.what;
        EXPECT_EQ(message.find('\n'), std::string::npos) << row.what;
        EXPECT_LT(message.size(), 400u) << row.what;
    }
}

TEST(Safetensors, ReadsAFile) {
    const TempFolder folder;
    SafetensorsBuilder()
        .add("a", "F32", {2}, bytesOf<float>({1, 2}))
        .add("b", "U8", {3}, "xyz")
        .metadata("format", "pt")
        .write(folder / "m.safetensors");

    const SafetensorsHeader header = readSafetensorsHeader(folder / "m.safetensors");

    ASSERT_EQ(header.tensors.size(), 2u);
    EXPECT_EQ(header.tensors[1].bytes.end, std::filesystem::file_size(folder / "m.safetensors"));
    EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(Safetensors, SaysWhatIsWrongWithAFile) {
    const std::string header = R"({"a":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}})";
    const std::string length = std::string(1, static_cast<char>(header.size())) + std::string(7, '\0');
    const struct {
        std::string what, bytes, message;
    } rows[] = {
        {"empty", "", "has 0 bytes"},
        {"seven bytes", "1234567", "has 7 bytes"},
        {"length only", length, "the header should have 57 bytes, but the file ends after 0 of them"},
        {"header cut", length + header.substr(0, 20), "the file ends after 20 of them"},
        {"header of 0 bytes", std::string(8, '\0'), "does not begin with '{'"},
        {"data cut", length + header + std::string(75, 'x'),
         "data ends at byte 140, the header needs 165 (25 bytes, 15% missing); the download was probably cut short"},
        {"data missing", length + header, "(100 bytes, 61% missing)"},
        {"too much data", length + header + std::string(101, 'x'), "1 bytes follow the last tensor, which ends at byte 165"},
        {"100 MB and one byte", std::string("\x01\xE1\xF5\x05\0\0\0\0", 8),
         "the header length field says 100000001 bytes, at most 100000000"},
        {"length of all ones", std::string(8, '\xFF'), "18446744073709551615 bytes"},
        {"a PyTorch file", "PK\x03\x04 and so on", "not a safetensors file"},
        {"git-lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "run `git lfs pull`"},
    };
    const TempFolder folder;
    const std::filesystem::path path = folder / "m.safetensors";
    for (const auto& row : rows) {
        writeBytes(path, row.bytes);

        const std::string message = messageOf<InputError>([&] { readSafetensorsHeader(path); });

        EXPECT_THAT(message, AllOf(StartsWith(path.string() + ": "), HasSubstr(row.message))) << row.what;
    }
    EXPECT_THAT(messageOf<InputError>([&] { readSafetensorsHeader(folder / "absent"); }), HasSubstr("does not exist"));
}

TEST(Safetensors, ReadsAQuarterOfAMillionTensorsInSeconds) {
    constexpr std::uint64_t kTensors = 250'000;
    std::string json = "{";
    for (std::uint64_t i = 0; i < kTensors; ++i)
        json += fmt::format(R"({}"model.layers.{}.weight":{{"dtype":"BF16","shape":[1],"data_offsets":[{},{}]}})",
                            i ? "," : "", i, 2 * i, 2 * i + 2);
    json += "}";
    const auto start = std::chrono::steady_clock::now();

    const SafetensorsHeader header = parseSafetensorsHeader(json, 2 * kTensors, "f");

    // Takes about 0.3 s, with sanitizers half a minute. A time that grows with the square of the number would be hours then.
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 100);
    EXPECT_EQ(header.tensors.size(), kTensors);
}

TEST(Safetensors, CountsElements) {
    EXPECT_EQ(elementCount({}), 1);
    EXPECT_EQ(elementCount({3, 5}), 15);
    EXPECT_EQ(elementCount({3, 0}), 0);
    EXPECT_EQ(shapeText({64, 160}), "[64, 160]");
    EXPECT_EQ(shapeText({}), "[]");
}

}  // namespace
}  // namespace aimerge
