#include "aimerge/output/manifest.h"

#include "aimerge/core/error.h"
#include "output/small_output.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::HasSubstr;

std::vector<FinishedTensor> finishedTensors() {
    std::vector<FinishedTensor> finished;
    for (const OutputShard& shard : test::smallLayout().shards) {
        for (const TensorInfo& tensor : shard.tensors) finished.push_back({"", tensor.name, digestOf(tensor.name)});
    }
    return finished;
}

Manifest manifestWithFiles() {
    Manifest manifest = test::smallManifest();
    manifest.files = shardEntries(test::smallLayout(), finishedTensors());
    manifest.files.push_back({"config.json", 12, digestOf("config"), std::nullopt});
    return manifest;
}

TEST(Manifest, ReadsBackWhatWasWritten) {
    const Manifest written = manifestWithFiles();

    const Manifest read = parseManifest(manifestText(written), "manifest");

    EXPECT_EQ(read.version, written.version);
    EXPECT_EQ(read.created, written.created);
    EXPECT_EQ(read.inputDigest, written.inputDigest);
    EXPECT_EQ(read.method, "ties");
    EXPECT_EQ(read.omegas, std::set{0.4});
    EXPECT_EQ(read.seeds, written.seeds);
    EXPECT_EQ(read.base, written.base);
    EXPECT_EQ(read.experts, written.experts);
    EXPECT_EQ(read.settings, written.settings);
    EXPECT_EQ(read.config, written.config);
    EXPECT_EQ(read.files, written.files);
}

TEST(Manifest, ListsTheOmegasOfTensorsThatHaveTheirOwn) {
    Manifest written = manifestWithFiles();
    written.omegas = {0.2, 0.5, 1};
    EXPECT_EQ(parseManifest(manifestText(written), "manifest").omegas, written.omegas);
}

TEST(Manifest, EndsWithTheChecksumOfAllBytesBeforeIt) {
    const std::string text = manifestText(manifestWithFiles());

    const std::size_t key = text.rfind("\"checksum\"");
    EXPECT_EQ(text.substr(key), "\"checksum\": \"" + digestOf(text.substr(0, key)).hex() + "\"\n}\n");
    EXPECT_TRUE(nlohmann::json::accept(text));
}

TEST(Manifest, NoticesEveryChangedBit) {
    const std::string text = manifestText(manifestWithFiles());
    for (std::size_t bit = 0; bit < 8 * text.size(); bit += 3) {
        std::string changed = text;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
        EXPECT_THROW(parseManifest(changed, "manifest"), InputError) << "bit " << bit;
    }
    EXPECT_THROW(parseManifest("", "manifest"), InputError);
    EXPECT_THROW(parseManifest(text + " ", "manifest"), InputError);
}

TEST(Manifest, RefusesNamesThatLeaveTheFolder) {
    Manifest manifest = test::smallManifest();
    manifest.files.push_back({"../config.json", 12, digestOf("config"), std::nullopt});
    try {
        parseManifest(manifestText(manifest), "manifest");
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("not a file name: ../config.json"));
    }
}

TEST(Manifest, ShardChecksumIsOfHeaderAndTensorsInFileOrder) {
    const ShardLayout layout = test::smallLayout();
    const std::vector<ManifestFile> entries = shardEntries(layout, finishedTensors());

    ASSERT_EQ(entries.size(), 2u);
    Hasher expected;
    const Digest header = digestOf(layout.shards[0].header);
    expected.update(std::as_bytes(std::span(header.bytes)));
    for (const TensorInfo& tensor : layout.shards[0].tensors) {
        const Digest digest = digestOf(tensor.name);
        expected.update(std::as_bytes(std::span(digest.bytes)));
    }
    EXPECT_EQ(entries[0].checksum, expected.digest());
    EXPECT_EQ(entries[0].bytes, layout.shards[0].fileBytes);
}

TEST(Manifest, NamesATensorThatWasNeverFinished) {
    std::vector<FinishedTensor> finished = finishedTensors();
    std::erase_if(finished, [](const FinishedTensor& tensor) { return tensor.tensor == "lm_head.weight"; });
    try {
        shardEntries(test::smallLayout(), finished);
        FAIL() << "accepted";
    } catch (const RuntimeFault& error) {
        EXPECT_THAT(error.what(), HasSubstr("model-00002-of-00002.safetensors: tensor lm_head.weight was not written"));
    }
}

TEST(Manifest, EntryOfAFileHasItsDigest) {
    const TempFolder temp;
    const std::string contents(3'000'000, 'x');  // several reads
    writeTextFile(temp.path() / "log.h5", contents);

    EXPECT_EQ(fileEntry(temp.path(), "log.h5"), (ManifestFile{"log.h5", 3'000'000, digestOf(contents), std::nullopt}));
}

}  // namespace
}  // namespace aimerge
