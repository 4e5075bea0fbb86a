#include "aimerge/safetensors/shard_layout.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace aimerge {
namespace {

using testing::ElementsAre;

std::vector<std::string> namesOf(const OutputShard& shard) {
    std::vector<std::string> names;
    for (const TensorInfo& tensor : shard.tensors) names.push_back(tensor.name);
    return names;
}

TEST(ShardLayout, WritesTheHeaderByteForByte) {
    const ShardLayout layout = layOutShards({{"b", Dtype::BF16, {2, 3}}, {"a", Dtype::F32, {2}}}, 1000);

    // 142 characters of JSON, padded with two blanks to 144 = 0x90. The F32 tensor comes first so that both are aligned.
    const std::string expected = std::string("\x90\0\0\0\0\0\0\0", 8) +
                                 R"({"__metadata__":{"format":"pt"},)"
                                 R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                 R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]}})";
    ASSERT_EQ(layout.shards.size(), 1);
    const OutputShard& shard = layout.shards[0];
    EXPECT_EQ(shard.header.substr(0, expected.size()), expected);
    EXPECT_EQ(shard.header.substr(expected.size()).find_first_not_of(' '), std::string::npos);
    EXPECT_EQ(shard.header.size(), 8u + 144u);
    EXPECT_EQ(shard.fileName, "model.safetensors");
    EXPECT_EQ(shard.fileBytes, shard.header.size() + 20);
    EXPECT_EQ(layout.find("a").bytes, (ByteRange{152, 160}));
    EXPECT_EQ(layout.find("b").bytes, (ByteRange{160, 172}));
    EXPECT_EQ(layout.totalBytes(), 20u);
}

TEST(ShardLayout, IsReadBackByTheReader) {
    const ShardLayout layout = layOutShards(
        {{"odd", Dtype::U8, {3}}, {"half", Dtype::F16, {5, 1}}, {"wide", Dtype::F64, {}}, {"empty", Dtype::F32, {0, 4}}},
        1000);

    const OutputShard& shard = layout.shards[0];
    const SafetensorsHeader header = parseSafetensorsHeader(std::string_view(shard.header).substr(8),
                                                            shard.fileBytes - shard.header.size(), shard.fileName);
    EXPECT_EQ(header.metadata.at("format"), "pt");
    ASSERT_EQ(header.tensors.size(), 4);
    for (const TensorInfo& tensor : header.tensors) {
        const TensorInfo& planned = layout.find(tensor.name);
        EXPECT_EQ(tensor.shape, planned.shape) << tensor.name;
        EXPECT_EQ(tensor.dtype, planned.dtype) << tensor.name;
        EXPECT_EQ(planned.bytes.begin % bytesPerElement(tensor.dtype), 0u) << tensor.name;
    }
}

TEST(ShardLayout, ClosesAShardBeforeItGrowsTooLarge) {
    // 40, 40, 200 (larger than a shard), 60, 40 bytes at 100 per shard.
    const ShardLayout layout = layOutShards({{"a", Dtype::F32, {10}},
                                             {"b", Dtype::F32, {10}},
                                             {"huge", Dtype::F32, {50}},
                                             {"c", Dtype::F32, {15}},
                                             {"d", Dtype::F32, {10}}},
                                            100);

    ASSERT_EQ(layout.shards.size(), 3);
    EXPECT_THAT(namesOf(layout.shards[0]), ElementsAre("a", "b"));
    EXPECT_THAT(namesOf(layout.shards[1]), ElementsAre("huge"));
    EXPECT_THAT(namesOf(layout.shards[2]), ElementsAre("c", "d"));
    EXPECT_EQ(layout.shards[1].fileName, "model-00002-of-00003.safetensors");
    EXPECT_EQ(layout.find("d").fileIndex, 2);
    for (const OutputShard& shard : layout.shards) EXPECT_EQ(shard.header.size() % 8, 0u);
}

TEST(ShardLayout, WritesTheIndexAsTransformersDoes) {
    const ShardLayout layout = layOutShards({{"z", Dtype::F32, {1}}, {"ä", Dtype::BF16, {1}}, {"a", Dtype::F32, {1}}}, 4);

    EXPECT_EQ(layout.indexJson(),
              "{\n"
              "  \"metadata\": {\n"
              "    \"total_size\": 10\n"
              "  },\n"
              "  \"weight_map\": {\n"
              "    \"a\": \"model-00003-of-00003.safetensors\",\n"
              "    \"z\": \"model-00001-of-00003.safetensors\",\n"
              "    \"\\u00e4\": \"model-00002-of-00003.safetensors\"\n"
              "  }\n"
              "}\n");
}

TEST(ShardLayout, RefusesWhatCannotBeLaidOut) {
    EXPECT_THROW(layOutShards({}, 100), std::logic_error);
    EXPECT_THROW(layOutShards({{"a", Dtype::F32, {1}}, {"a", Dtype::F32, {1}}}, 100), std::logic_error);
    EXPECT_THROW(layOutShards({{"a", Dtype::F32, {1}}}, 0), UsageError);
    EXPECT_THROW(layOutShards({{"a", Dtype::F32, {1}}}, 100).find("b"), std::out_of_range);
}

}  // namespace
}  // namespace aimerge
