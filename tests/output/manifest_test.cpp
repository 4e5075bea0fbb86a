#include "aimerge/output/manifest.h"

#include "aimerge/core/error.h"
#include "aimerge/core/revision.h"
#include "output/small_output.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

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
    EXPECT_EQ(read.revisions, written.revisions);
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

/// Every key, and the types of their values, in their order.
std::string shapeOf(const nlohmann::ordered_json& value) {
    if (value.is_array()) return "[" + (value.empty() ? std::string() : shapeOf(value.front())) + "]";
    if (!value.is_object()) return value.type_name();
    std::string shape;
    for (const auto& [key, entry] : value.items()) shape += (shape.empty() ? "" : ", ") + key + " " + shapeOf(entry);
    return "{" + shape + "}";
}

TEST(Manifest, HasTheFormOfItsRevision) {
    const std::string shape = shapeOf(nlohmann::ordered_json::parse(manifestText(manifestWithFiles())));

    const std::string model = "{name string, header_digest string, bytes number}";
    const std::string shard = "{bytes number, checksum string, header string, tensors ";
    EXPECT_EQ(revision::kManifest, 1);
    EXPECT_EQ(shape,
              "{format number, aimerge string, revisions {merged_values number, statistics number}, created string, "
              "input_digest string, method string, omega number, seeds {calibration number}, base " +
                  model + ", experts [" + model +
                  "], settings {density number}, config string, files {model-00001-of-00002.safetensors " + shard +
                  "{model.norm.weight string, model.embed_tokens.weight string}}, model-00002-of-00002.safetensors " +
                  shard + "{lm_head.weight string}}, config.json {bytes number, checksum string}}, checksum string}")
        << "another form needs another revision::kManifest (core/revision.h), and a reader of this one; then change this "
           "test";
}

/// @param change of the JSON; the checksum is made anew
std::string changedManifest(const std::function<void(nlohmann::ordered_json&)>& change) {
    auto json = nlohmann::ordered_json::parse(manifestText(manifestWithFiles()));
    json.erase("checksum");
    change(json);
    std::string text = json.dump(2);
    text.resize(text.size() - 2);
    text += ",\n  ";
    return text + "\"checksum\": \"" + digestOf(text).hex() + "\"\n}\n";
}

TEST(Manifest, OfAnOlderVersionHasNoRevisions) {
    const std::string text = changedManifest([](auto& json) { json.erase("revisions"); });

    const Manifest read = parseManifest(text, "manifest");

    EXPECT_TRUE(read.revisions.empty());
    EXPECT_EQ(read.files, manifestWithFiles().files);
}

TEST(Manifest, OfAnUnknownFormIsAnError) {
    for (const int format : {0, 2}) {
        const std::string text = changedManifest([&](auto& json) { json["format"] = format; });
        EXPECT_THAT(messageOf<InputError>([&] { parseManifest(text, "manifest"); }),
                    HasSubstr(fmt::format("format is {}, this version of aimerge reads up to 1", format)));
    }
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
    for (const char* name :
         {"../config.json", "a/../../config.json", "/etc/passwd", "..", ".", "", "a/", "a//b", "./a", "a/../b"}) {
        Manifest manifest = test::smallManifest();
        manifest.files.push_back({name, 12, digestOf("config"), std::nullopt});
        EXPECT_THAT(messageOf<InputError>([&] { parseManifest(manifestText(manifest), "manifest"); }),
                    HasSubstr(std::string("not a file name: ") + name))
            << name;
    }
    Manifest manifest = test::smallManifest();
    manifest.files.push_back({"templates/rag.jinja", 12, digestOf("rag"), std::nullopt});
    EXPECT_EQ(parseManifest(manifestText(manifest), "manifest").files.back().name, "templates/rag.jinja");
}

TEST(Manifest, HasFilesWithinFolders) {
    Manifest manifest = test::smallManifest();
    manifest.files.push_back({"1_Pooling/config.json", 12, digestOf("config"), std::nullopt});

    EXPECT_EQ(parseManifest(manifestText(manifest), "manifest").files, manifest.files);
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
