#include "aimerge/output/shard_writer.h"

#include "aimerge/core/read_ahead.h"
#include "aimerge/core/thread_pool.h"
#include "output/small_output.h"
#include "support/temp_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using test::contentsOf;

constexpr std::uint64_t kBlock = ShardWriter::kDigestBlockBytes;

/// One tensor of two whole blocks and a bit, one that is small.
ShardLayout layoutOfBlocks() {
    return layOutShards({{"large", Dtype::U8, {static_cast<std::int64_t>(2 * kBlock + 5)}}, {"small", Dtype::U8, {3}}},
                        1u << 30);
}

TEST(ShardWriter, WritesBlocksInAnyOrderFromAnyThread) {
    const TempFolder temp;
    const ShardLayout layout = layoutOfBlocks();
    const TensorInfo& large = layout.find("large");
    const std::vector<std::byte> contents = contentsOf(large);
    ShardWriter::createFiles(temp.path(), layout);
    Journal journal(temp.path(), 0);
    ShardWriter writer(temp.path(), "", layout, journal);

    ThreadPool pool(3);
    pool.forEach(3, [&](std::size_t index, int) {
        const std::uint64_t offset = (2 - index) * kBlock;
        writer.write("large", offset, std::span(contents).subspan(offset, std::min(kBlock, contents.size() - offset)));
    });
    writer.finishTensor("large");
    writer.write("small", 0, contentsOf(layout.find("small")));
    writer.finishTensor("small");
    writer.sync();

    const std::string file = readTextFile(temp.path() / "model.safetensors");
    const auto bytes = std::as_bytes(std::span(file));
    EXPECT_EQ(file.size(), layout.shards[0].fileBytes);
    EXPECT_EQ(file.substr(0, layout.shards[0].header.size()), layout.shards[0].header);
    EXPECT_TRUE(std::ranges::equal(bytes.subspan(large.bytes.begin, large.bytes.size()), contents));

    // The digest by its definition: of the digests of 4 MiB blocks.
    Hasher expected;
    for (std::uint64_t offset = 0; offset < contents.size(); offset += kBlock) {
        const Digest block = digestOf(std::span(contents).subspan(offset, std::min(kBlock, contents.size() - offset)));
        expected.update(std::as_bytes(std::span(block.bytes)));
    }
    ASSERT_EQ(writer.finished().size(), 2u);
    EXPECT_EQ(writer.finished()[0], (FinishedTensor{"", "large", expected.digest()}));
    EXPECT_EQ(readJournals(temp.path()), writer.finished());
}

TEST(ShardWriter, AdoptsOnlyWhatIsReallyInTheFile) {
    const TempFolder temp;
    const ShardLayout layout = test::smallLayout();
    std::vector<FinishedTensor> claims;
    {
        ShardWriter::createFiles(temp.path() / "omega-0.4", layout);
        Journal journal(temp.path(), 0);
        ShardWriter first(temp.path(), "omega-0.4", layout, journal);
        test::writeTensor(first, layout.find("model.norm.weight"));
        test::writeTensor(first, layout.find("lm_head.weight"));
    }
    claims = readJournals(temp.path());
    ASSERT_EQ(claims.size(), 2u);
    // What a crash of the machine may do: the journal's line is there, some of the data is not.
    const TensorInfo& lost = layout.find("lm_head.weight");
    File::openForWriting(temp.path() / "omega-0.4" / layout.shards[lost.fileIndex].fileName)
        .writeAt(lost.bytes.begin + 100, std::vector<std::byte>(50));

    ShardWriter::createFiles(temp.path() / "omega-0.4", layout);  // a resumed run does this again
    Journal journal(temp.path(), 0);
    ShardWriter second(temp.path(), "omega-0.4", layout, journal);

    std::vector<FinishedTensor> all = claims;
    all.push_back({"omega-0.4", "unknown", claims[1].digest});
    all.push_back({"omega-0.7", claims[0].tensor, claims[0].digest});
    all.push_back(claims[1]);  // twice: it was written again after an earlier interruption
    ThreadPool threads(2);
    second.adopt(all, threads, kReadAheadBytes);
    ASSERT_EQ(second.finished().size(), 1u);
    EXPECT_EQ(second.finished()[0], claims[1]);
    EXPECT_EQ(claims[1].tensor, "model.norm.weight");
}

TEST(ShardWriter, RefusesPartsOfBlocksAndUnfinishedTensors) {
    const TempFolder temp;
    const ShardLayout layout = layoutOfBlocks();
    ShardWriter::createFiles(temp.path(), layout);
    Journal journal(temp.path(), 0);
    ShardWriter writer(temp.path(), "", layout, journal);
    const std::vector<std::byte> bytes(kBlock);

    EXPECT_THROW(writer.write("large", 1, bytes), std::logic_error);
    EXPECT_THROW(writer.write("large", 0, std::span(bytes).first(10)), std::logic_error);
    EXPECT_THROW(writer.write("large", 2 * kBlock, bytes), std::logic_error);
    EXPECT_THROW(writer.write("missing", 0, bytes), std::logic_error);
    writer.write("large", kBlock, bytes);
    EXPECT_THROW(writer.finishTensor("large"), std::logic_error);
    EXPECT_TRUE(writer.finished().empty());
}

}  // namespace
}  // namespace aimerge
