#include "aimerge/checkpoint/weight_header.h"

#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gtest/gtest.h>

#include <functional>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

void changeByte(const fs::path& path, std::uint64_t place) {
    std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(place));
    const int old = stream.get();
    stream.seekp(static_cast<std::streamoff>(place));
    stream.put(static_cast<char>(old ^ 1));
}

TEST(WeightHeader, IsOfTheBytesThatPlaceTheTensorsAndNoOthers) {
    const TempFolder folder;
    SafetensorsBuilder().add("a", "F32", {2}, bytesOf<float>({1, 2})).write(folder / "a.safetensors");
    fs::copy_file(fs::path(AIMERGE_SOURCE_ROOT) / "tests/fuzz/corpus/torch_file/tied", folder / "a.bin");
    for (const char* name : {"a.safetensors", "a.bin"}) {
        const fs::path path = folder / name;
        const File file = File::openForReading(path);
        const WeightHeader header = readWeightHeader(file);
        ASSERT_FALSE(header.tensors.empty());
        EXPECT_TRUE(header.parts.areIn(file));

        changeByte(path, header.tensors.back().bytes.begin);
        EXPECT_TRUE(header.parts.areIn(file)) << name;
        for (const ByteRange& range : header.parts.ranges) {
            changeByte(path, range.end - 1);
            EXPECT_FALSE(header.parts.areIn(file)) << name << " " << range.begin;
            changeByte(path, range.end - 1);
        }
        EXPECT_TRUE(header.parts.areIn(file)) << name;
    }
}

}  // namespace
}  // namespace aimerge
