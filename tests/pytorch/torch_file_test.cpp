// Files that torch wrote, whose values are known; what is refused is a table of tests/system/test_pytorch_files.py.

#include "aimerge/pytorch/torch_file.h"

#include "aimerge/core/error.h"
#include "pytorch/zip_archive.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace aimerge {
namespace {

using testing::HasSubstr;

std::filesystem::path seed(const std::string& name) {
    return std::filesystem::path(AIMERGE_SOURCE_ROOT) / "tests/fuzz/corpus/torch_file" / name;
}

std::map<std::string, TensorInfo> read(const File& file) {
    HeaderSource source(file);
    std::map<std::string, TensorInfo> tensors;
    for (const TensorInfo& tensor : readTorchFile(source)) tensors[tensor.name] = tensor;
    return tensors;
}

template <typename Element>
std::vector<Element> valuesOf(const TensorInfo& tensor, const File& file) {
    std::vector<Element> values(tensor.bytes.size() / sizeof(Element));
    file.readAt(tensor.bytes.begin, std::as_writable_bytes(std::span(values)));
    return values;
}

TEST(TorchFile, HasItsTensorsInPlaces) {
    const File file = File::openForReading(seed("views"));

    const auto tensors = read(file);

    ASSERT_EQ(tensors.size(), 4u);
    EXPECT_EQ(tensors.at("a").dtype, Dtype::F32);
    EXPECT_EQ(tensors.at("a").shape, (Shape{2}));
    EXPECT_EQ(valuesOf<float>(tensors.at("a"), file), (std::vector<float>{0, 1}));
    EXPECT_EQ(tensors.at("b").shape, (Shape{2, 2}));
    EXPECT_EQ(valuesOf<float>(tensors.at("b"), file), (std::vector<float>{2, 3, 4, 5}));
    EXPECT_EQ(tensors.at("s").dtype, Dtype::I64);
    EXPECT_EQ(tensors.at("s").shape, Shape{});
    EXPECT_EQ(valuesOf<std::int64_t>(tensors.at("s"), file), (std::vector<std::int64_t>{3}));
    EXPECT_EQ(tensors.at("e").shape, (Shape{0, 4}));
    EXPECT_EQ(tensors.at("e").bytes.size(), 0u);
}

TEST(TorchFile, HasTiedWeightsTwice) {
    const auto tensors = read(File::openForReading(seed("tied")));

    EXPECT_EQ(tensors.at("embed.weight").bytes, tensors.at("head.weight").bytes);
    EXPECT_EQ(tensors.at("embed.weight").dtype, Dtype::BF16);
    EXPECT_EQ(tensors.at("p").dtype, Dtype::F16);  // a Parameter
}

TEST(TorchFile, IsReadInLaterProtocols) {
    const auto tensors = read(File::openForReading(seed("protocol_4")));

    EXPECT_EQ(tensors.at("w").dtype, Dtype::F64);
    EXPECT_EQ(tensors.at("m").dtype, Dtype::Bool);
}

TEST(TorchFile, IsReadFromItsHeaderAlone) {
    const TempFolder folder;
    const File file = File::openForReading(seed("tied"));
    HeaderSource source(file);
    const std::vector<TensorInfo> tensors = readTorchFile(source);

    File holes = File::openForWriting(folder / "holes.bin");
    holes.resize(file.size());
    HeaderSource parts(file);
    for (const ByteRange& range : source.ranges()) {
        const std::string bytes = parts.read(range.begin, range.size());
        holes.writeAt(range.begin, std::as_bytes(std::span(bytes)));
    }

    const auto found = read(File::openForReading(folder / "holes.bin"));
    ASSERT_EQ(found.size(), tensors.size());
    for (const TensorInfo& tensor : tensors) EXPECT_EQ(found.at(tensor.name).bytes, tensor.bytes);
    EXPECT_EQ(parts.digest(), source.digest());
}

TEST(TorchFile, IsRefusedWithWhatItHolds) {
    const auto message = [](const std::string& name) {
        return messageOf<InputError>([&] { read(File::openForReading(seed(name))); });
    };

    EXPECT_THAT(message("nested"),
                HasSubstr("its dict has \"state_dict\" (a dict), \"epoch\" (a number), \"loss\" (a number "
                          "with a point), \"groups\" (a list), expected tensors by name"));
    EXPECT_THAT(message("strides"), HasSubstr("tensor \"t\" of shape [3, 2] has strides [1, 3]"));
    EXPECT_THAT(message("before_1.6"), HasSubstr("is in the format of torch before 1.6"));
}

TEST(Crc32, IsThatOfZipArchives) {
    EXPECT_EQ(crc32Of(""), 0u);
    EXPECT_EQ(crc32Of("123456789"), 0xCBF43926u);  // the check value of the algorithm's catalogue
}

}  // namespace
}  // namespace aimerge
