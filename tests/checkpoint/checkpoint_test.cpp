#include "aimerge/checkpoint/checkpoint.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::string readAll(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    std::string bytes(tensor.bytes.size(), '\0');
    checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
    return bytes;
}

TEST(Checkpoint, ReadsATensorsBytes) {
    const TempFolder folder;
    const TinyLlama model;
    model.write(folder.path());

    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());

    ASSERT_EQ(checkpoint.tensors().size(), model.tensors.size());
    for (const auto& [name, tensor] : model.tensors) {
        const TensorInfo* found = checkpoint.find(name);
        ASSERT_NE(found, nullptr) << name;
        EXPECT_EQ(found->shape, tensor.shape);
        EXPECT_EQ(readAll(checkpoint, *found), tensor.bytes) << name;
    }
    std::string part(8, '\0');
    checkpoint.read(*checkpoint.find("lm_head.weight"), 4, std::as_writable_bytes(std::span(part)));
    EXPECT_EQ(part, bytesOf<float>({1, 2}));
    EXPECT_EQ(checkpoint.find("model.norm"), nullptr);
    EXPECT_EQ(checkpoint.modelConfig().hiddenSize, 4);
    EXPECT_EQ(checkpoint.config().at("vocab_size"), 6);
}

TEST(Checkpoint, RefusesToReadPastATensor) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());
    const TensorInfo& norm = *checkpoint.find("model.norm.weight");  // 16 bytes
    std::vector<std::byte> out(8);

    EXPECT_NO_THROW(checkpoint.read(norm, 8, out));
    EXPECT_THROW(checkpoint.read(norm, 9, out), std::out_of_range);
    EXPECT_THROW(checkpoint.read(norm, ~std::uint64_t{0}, out), std::out_of_range);
}

TEST(Checkpoint, ListsTensorsInModelOrder) {
    const TempFolder folder;
    TinyLlama().writeSharded(folder.path());

    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());

    const std::vector<TensorInfo>& tensors = checkpoint.tensors();
    EXPECT_EQ(tensors.front().name, "model.embed_tokens.weight");
    EXPECT_EQ(tensors[1].name, "model.layers.0.input_layernorm.weight");
    EXPECT_EQ(tensors[10].name, "model.layers.1.input_layernorm.weight");
    EXPECT_EQ(tensors[tensors.size() - 2].name, "model.norm.weight");
    EXPECT_EQ(tensors.back().name, "lm_head.weight");
    EXPECT_EQ(checkpoint.files().size(), 2u);
}

TEST(Checkpoint, MovesWithItsTensors) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    std::vector<Checkpoint> models;
    models.push_back(Checkpoint::open(folder.path().string()));
    const TensorInfo* before = models[0].find("model.norm.weight");

    const Checkpoint moved = std::move(models[0]);
    models.clear();

    EXPECT_EQ(moved.find("model.norm.weight"), before);
    EXPECT_EQ(readAll(moved, *before), bytesOf<float>({0, 1, 2, 3}));
}

TEST(Checkpoint, ContentDigestDoesNotDependOnShardingOrThreads) {
    const TempFolder folder;
    TinyLlama model;
    model.addFloats("model.layers.1.mlp.large.weight", {3, 500'000});  // 6 MB: two blocks
    model.write(folder / "whole");
    model.writeSharded(folder / "sharded");
    ThreadPool one(1), three(3);

    const Checkpoint whole = Checkpoint::open((folder / "whole").string());
    const Checkpoint sharded = Checkpoint::open((folder / "sharded").string());

    EXPECT_EQ(whole.contentDigest(one), sharded.contentDigest(three));
    EXPECT_NE(whole.headerDigest(), sharded.headerDigest());
    EXPECT_EQ(whole.totalBytes(), sharded.totalBytes());
}

TEST(Checkpoint, ContentDigestSeesEveryChange) {
    const TempFolder folder;
    const TinyLlama original;
    std::vector<TinyLlama> models(5);
    models[1].tensors["model.norm.weight"].bytes[0] = 1;
    models[2].tensors["model.norm.weight"].dtype = "I32";
    models[3].tensors["model.norm.weight"].shape = {2, 2};
    models[4].tensors["model.norms.weight"] = original.tensors.at("model.norm.weight");
    models[4].tensors.erase("model.norm.weight");
    ThreadPool threads(2);

    std::vector<std::string> digests;
    for (std::size_t i = 0; i < models.size(); ++i) {
        models[i].write(folder / std::to_string(i));
        digests.push_back(Checkpoint::open((folder / std::to_string(i)).string()).contentDigest(threads).hex());
    }

    std::sort(digests.begin(), digests.end());
    EXPECT_EQ(std::unique(digests.begin(), digests.end()), digests.end());
}

TEST(Checkpoint, StampsChangeWhenAFileIsWritten) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    const std::string before = Checkpoint::open(folder.path().string()).fileStamps();
    EXPECT_EQ(Checkpoint::open(folder.path().string()).fileStamps(), before);
    EXPECT_THAT(before, HasSubstr("model.safetensors"));

    const fs::path file = folder / "model.safetensors";
    fs::last_write_time(file, fs::last_write_time(file) + std::chrono::nanoseconds(1000));

    EXPECT_NE(Checkpoint::open(folder.path().string()).fileStamps(), before);
}

TEST(Checkpoint, IdentityStampsTellFilesApartThatHaveOneTimeAndSize) {
    const TempFolder folder;
    const fs::file_time_type time = fs::file_time_type::clock::now();
    const auto written = [&](const char* name, float weight) {
        TinyLlama llama;
        llama.tensors["model.norm.weight"] = {"F32", {4}, bytesOf(std::vector<float>(4, weight))};
        llama.write(folder / name);
        fs::last_write_time(folder / name / "model.safetensors", time);
        return Checkpoint::open((folder / name).string());
    };
    const Checkpoint one = written("one", 1), other = written("other", 2);
    ASSERT_EQ(one.fileStamps(), other.fileStamps());

    EXPECT_NE(one.identityStamps(), other.identityStamps());
    EXPECT_EQ(one.identityStamps(), Checkpoint::open((folder / "one").string()).identityStamps());
    fs::create_directory_symlink(folder / "one", folder / "link");
    EXPECT_EQ(one.identityStamps(), Checkpoint::open((folder / "link").string()).identityStamps());

    const std::string before = one.identityStamps();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the clock of files is a coarse one
    written("one", 3);                                           // in place, with the old time
    EXPECT_NE(Checkpoint::open((folder / "one").string()).identityStamps(), before);
}

TEST(Checkpoint, NoticesThatItIsWrittenToWhileItIsRead) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    const fs::path file = folder / "model.safetensors";
    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());
    EXPECT_NO_THROW(checkpoint.requireUnchanged());

    fs::copy_file(file, folder / "copy");
    fs::rename(folder / "copy", file);  // the old file is still there, for who has it open
    EXPECT_NO_THROW(checkpoint.requireUnchanged());

    const Checkpoint cut = Checkpoint::open(folder.path().string());
    fs::resize_file(file, fs::file_size(file) - 1);
    EXPECT_THAT([&] { cut.requireUnchanged(); },
                ThrowsMessage<InputError>(HasSubstr("model.safetensors: was written to while it was read")));
}

TEST(Checkpoint, NoticesAnotherHeaderBehindTheOldModificationTime) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    const fs::path file = folder / "model.safetensors";
    const fs::file_time_type before = fs::last_write_time(file);
    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());

    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(9);  // behind the length and the brace
    stream.put('\'');
    stream.close();
    fs::last_write_time(file, before);

    EXPECT_THAT([&] { checkpoint.requireUnchanged(); },
                ThrowsMessage<InputError>(HasSubstr("model.safetensors: was written to while it was read")));
}

TEST(Checkpoint, OpensTheRealFamilies) {
    const struct {
        std::string family;
        Dtype dtype;
        std::uint64_t totalBytes;
    } rows[] = {{"family_f32", Dtype::F32, 4 * 170'432}, {"family_bf16", Dtype::BF16, 2 * 170'432}};
    for (const auto& row : rows) {
        const Checkpoint base = Checkpoint::open(std::string(AIMERGE_TEST_DATA) + "/goldens/" + row.family + "/base");

        EXPECT_EQ(base.totalBytes(), row.totalBytes) << row.family;
        EXPECT_EQ(base.modelConfig().dtype, row.dtype) << row.family;
        EXPECT_EQ(base.modelConfig().layers, 3) << row.family;
        const TensorInfo* up = base.find("model.layers.2.mlp.up_proj.weight");
        ASSERT_NE(up, nullptr);
        EXPECT_EQ(up->shape, (Shape{160, 64}));
        EXPECT_EQ(up->dtype, row.dtype);
    }
}

TEST(Checkpoint, WarnsOfAnIndexThatIsNotExact) {
    const TempFolder folder;
    nlohmann::json index = TinyLlama().writeSharded(folder.path());
    index["metadata"]["total_size"] = 1;
    index["weight_map"].erase("model.norm.weight");
    writeBytes(folder / "model.safetensors.index.json", index.dump());
    const LogCapture log;

    const Checkpoint checkpoint = Checkpoint::open(folder.path().string());

    EXPECT_NE(checkpoint.find("model.norm.weight"), nullptr);
    EXPECT_THAT(log.text(), AllOf(HasSubstr("warning: "), HasSubstr("metadata.total_size is 1, the tensors have"),
                                  HasSubstr("does not list 1 tensors of its shards (model.norm.weight, ...)")));
}

TEST(Checkpoint, SaysNothingOfAnExactIndex) {
    const TempFolder folder;
    TinyLlama().writeSharded(folder.path());
    const LogCapture log;

    Checkpoint::open(folder.path().string());

    EXPECT_THAT(log.text(), IsEmpty());
}

class BadFolder : public testing::Test {
protected:
    std::string open() const {
        return messageOf<InputError>([&] { Checkpoint::open(folder_.path().string()); });
    }
    void writeIndex(const nlohmann::json& index) const {
        writeBytes(folder_ / "model.safetensors.index.json", index.dump());
    }
    TempFolder folder_;
    TinyLlama model_;
};

TEST_F(BadFolder, IsNamedWhenItIsMissing) {
    EXPECT_THAT(messageOf<InputError>([] { Checkpoint::open("/no/such/folder"); }),
                HasSubstr("/no/such/folder: no such folder"));
    EXPECT_THAT(messageOf<InputError>([] { Checkpoint::open(""); }), HasSubstr("no such folder"));
    model_.write(folder_.path());
    EXPECT_THAT(messageOf<InputError>([&] { Checkpoint::open((folder_ / "model.safetensors").string()); }),
                HasSubstr("is a file, expected the folder of a model"));
}

TEST_F(BadFolder, LacksItsConfig) {
    model_.write(folder_.path());
    fs::remove(folder_ / "config.json");

    EXPECT_THAT(open(), HasSubstr("has no config.json"));
}

TEST_F(BadFolder, HasAConfigThatIsNotJson) {
    model_.write(folder_.path());
    const struct {
        std::string text, message;
    } rows[] = {{"", "not valid JSON at byte 1"},
                {"{", "not valid JSON at byte 2"},
                {"{\"a\": 1, \"b\": {\"a\": 1, \"a\": 2}}", "the key \"a\" is written twice"},
                {"[]", "holds array, expected a JSON object"},
                {"{\"a\": \"\xFF\"}", "not valid JSON"},
                {"{\"a\": 66e+666}", "number overflow parsing '66e+666'; expected numbers that fit a float64"},
                {"{\"a\": " + std::string(100, '['), "is nested deeper than 64 levels"}};
    for (const auto& row : rows) {
        writeBytes(folder_ / "config.json", row.text);
        EXPECT_THAT(open(), AllOf(HasSubstr("config.json: "), HasSubstr(row.message)));
    }
}

TEST_F(BadFolder, IsAnAdapter) {
    writeBytes(folder_ / "adapter_config.json", "{}");
    writeBytes(folder_ / "adapter_model.safetensors", "");
    EXPECT_THAT(open(), AllOf(HasSubstr("is an adapter"), HasSubstr("write BASE+")));

    model_.writeConfig(folder_.path());
    EXPECT_THAT(open(), AllOf(HasSubstr("is an adapter"), HasSubstr("write BASE+")));
}

TEST_F(BadFolder, HasNoTensors) {
    model_.tensors.clear();
    model_.write(folder_.path());

    EXPECT_THAT(open(), HasSubstr("hold no tensors"));
}

TEST_F(BadFolder, HasACutShard) {
    model_.writeSharded(folder_.path());
    const fs::path shard = folder_ / "model-00002-of-00002.safetensors";
    fs::resize_file(shard, fs::file_size(shard) - 10);

    EXPECT_THAT(open(), AllOf(HasSubstr("model-00002-of-00002.safetensors: data ends at byte"), HasSubstr("(10 bytes")));
}

TEST_F(BadFolder, LacksAShard) {
    model_.writeSharded(folder_.path());
    fs::remove(folder_ / "model-00002-of-00002.safetensors");

    EXPECT_THAT(open(), HasSubstr("model-00002-of-00002.safetensors: the shard is missing"));
}

TEST_F(BadFolder, HasATensorInAnotherShardThanTheIndexSays) {
    nlohmann::json index = model_.writeSharded(folder_.path());
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors";
    writeIndex(index);

    EXPECT_THAT(open(), AllOf(HasSubstr("tensor model.norm.weight is not in model-00001-of-00002.safetensors"),
                              HasSubstr("it is in model-00002-of-00002.safetensors")));
}

TEST_F(BadFolder, LacksATensorOfTheIndex) {
    nlohmann::json index = model_.writeSharded(folder_.path());
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors";
    writeIndex(index);

    EXPECT_THAT(open(), AllOf(HasSubstr("tensor model.extra.weight"), HasSubstr("no shard has it")));
}

TEST_F(BadFolder, HasATensorInTwoShards) {
    model_.writeSharded(folder_.path());
    model_.writeShard(folder_ / "model-00002-of-00002.safetensors", 0, model_.tensors.size());

    EXPECT_THAT(open(),
                AllOf(HasSubstr("is in both model-00001-of-00002.safetensors and model-00002-of-00002.safetensors")));
}

}  // namespace
}  // namespace aimerge
