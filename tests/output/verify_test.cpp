#include "aimerge/output/verify.h"

#include "aimerge/core/error.h"
#include "output/small_output.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using test::publishSmallOutput;
using testing::HasSubstr;

void flipBit(const fs::path& path, std::uint64_t byte, int bit) {
    File file = File::openForWriting(path);
    std::byte value{};
    file.readAt(byte, {&value, 1});
    value ^= static_cast<std::byte>(1 << bit);
    file.writeAt(byte, {&value, 1});
}

void replaceText(const fs::path& path, const std::string& from, const std::string& to) {
    std::string text = readTextFile(path);
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    writeTextFile(path, text.replace(at, from.size(), to));
}

void writeTextFileIn(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    writeTextFile(path, text);
}

std::string textOf(const VerifyReport& report) {
    std::string text;
    for (const Finding& finding : report.findings) text += finding.text + "\n";
    for (const std::string& notice : report.notices) text += "notice: " + notice + "\n";
    return text;
}

/// The name of the tensor whose data has this byte; empty in the header.
std::string tensorAt(const OutputShard& shard, std::uint64_t byte) {
    for (const TensorInfo& tensor : shard.tensors) {
        if (byte >= tensor.bytes.begin && byte < tensor.bytes.end) return tensor.name;
    }
    return "";
}

TEST(Verify, LooksIntoTheFoldersOfModules) {
    const TempFolder temp;
    writeTextFileIn(temp.path() / "source/modules.json",
                    R"([{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
    writeTextFileIn(temp.path() / "source/1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
    const fs::path out = publishSmallOutput(temp.path()), pooling = out / "1_Pooling/config.json";
    const VerifyReport whole = verify(out, 1);
    EXPECT_TRUE(whole.whole() && whole.notices.empty()) << textOf(whole);

    writeTextFile(out / "1_Pooling/more.json", "{}");
    EXPECT_THAT(textOf(verify(out, 1)), HasSubstr("notice: 1_Pooling/more.json: was not written with this checkpoint"));
    flipBit(pooling, 5, 0);
    EXPECT_THAT(textOf(verify(out, 1)), HasSubstr("1_Pooling/config.json: contents differ from what was written"));
    fs::remove(pooling);
    EXPECT_THAT(textOf(verify(out, 1)), HasSubstr("1_Pooling/config.json: is missing"));
}

TEST(Verify, FindsNothingInAWholeCheckpoint) {
    const TempFolder temp;
    const fs::path out = publishSmallOutput(temp.path());

    const VerifyReport report = verify(out, 2);

    EXPECT_TRUE(report.whole()) << textOf(report);
    EXPECT_TRUE(report.notices.empty()) << textOf(report);
    EXPECT_EQ(report.tensors, 3u);
    std::uint64_t files = 0, bytes = 0;
    for (const auto& entry : fs::directory_iterator(out)) {
        ++files;
        bytes += entry.file_size();
    }
    EXPECT_EQ(report.files, files);
    EXPECT_EQ(report.bytes, bytes);
}

TEST(Verify, FindsEverySingleFlippedBitAndNamesTheFile) {
    const TempFolder temp;
    const fs::path out = publishSmallOutput(temp.path());
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(out)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    const ShardLayout layout = test::smallLayout();

    std::mt19937 random(7);
    for (std::size_t trial = 0; trial < 200; ++trial) {
        const fs::path& path = files[trial % files.size()];
        const std::string name = path.filename().string();
        const std::uint64_t byte = random() % fs::file_size(path);
        const int bit = static_cast<int>(random() % 8);
        SCOPED_TRACE(fmt::format("{} byte {} bit {}", name, byte, bit));
        flipBit(path, byte, bit);

        const VerifyReport report = verify(out, 1);

        ASSERT_FALSE(report.whole());
        EXPECT_TRUE(std::ranges::any_of(report.findings, [&](const Finding& finding) { return finding.file == name; }))
            << textOf(report);
        for (const OutputShard& shard : layout.shards) {
            const std::string tensor = shard.fileName == name ? tensorAt(shard, byte) : "";
            if (tensor.empty()) continue;
            EXPECT_EQ(report.findings.size(), 1u) << textOf(report);
            EXPECT_EQ(report.findings[0].tensor, tensor);
            EXPECT_EQ(report.findings[0].bytes, layout.find(tensor).bytes);
            EXPECT_THAT(report.findings[0].text, HasSubstr(tensor));
        }
        flipBit(path, byte, bit);
    }
    EXPECT_TRUE(verify(out, 1).whole());
}

TEST(Verify, NamesWhatIsMissingCutOrTooMuch) {
    struct Row {
        std::function<void(const fs::path&)> damage;
        std::string file, message;
    };
    const Row rows[] = {
        {[](const fs::path& out) { fs::remove(out / "tokenizer.json"); }, "tokenizer.json", "tokenizer.json: is missing"},
        {[](const fs::path& out) { fs::remove(out / "model-00002-of-00002.safetensors"); },
         "model-00002-of-00002.safetensors", "is missing"},
        {[](const fs::path& out) { fs::resize_file(out / "model-00001-of-00002.safetensors", 400); },
         "model-00001-of-00002.safetensors", "has 400 bytes, the manifest says"},
        {[](const fs::path& out) { fs::resize_file(out / "README.md", 10); }, "README.md",
         "has 10 bytes, the manifest says"},
        {[](const fs::path& out) { fs::copy_file(out / "model-00001-of-00002.safetensors", out / "extra.safetensors"); },
         "extra.safetensors", "does not belong to this checkpoint"},
        {[](const fs::path& out) { fs::remove(out / kIndexFileName); }, kIndexFileName, "is missing"},
        {[](const fs::path& out) { replaceText(out / kIndexFileName, "\"lm_head.weight\"", "\"lm_tail.weight\""); },
         kIndexFileName, "tensor lm_tail.weight is said to be in model-00002-of-00002.safetensors, which lacks it"},
        {[](const fs::path& out) { replaceText(out / "config.json", "false", "true"); }, "config.json",
         "tie_word_embeddings is true, but lm_head.weight is stored"},
        {[](const fs::path& out) { writeTextFile(out / kManifestFileName, "{}"); }, kManifestFileName,
         "checksum does not fit"},
    };
    for (const Row& row : rows) {
        const TempFolder temp;
        const fs::path out = publishSmallOutput(temp.path());
        row.damage(out);

        const VerifyReport report = verify(out, 2);

        EXPECT_TRUE(std::ranges::any_of(report.findings,
                                        [&](const Finding& finding) {
                                            return finding.file == row.file &&
                                                   finding.text.find(row.message) != std::string::npos;
                                        }))
            << row.message << "\n"
            << textOf(report);
    }
}

TEST(Verify, MentionsOtherFilesWithoutCallingThemDamage) {
    const TempFolder temp;
    const fs::path out = publishSmallOutput(temp.path());
    writeTextFile(out / "notes.txt", "mine");

    const VerifyReport report = verify(out, 1);

    EXPECT_TRUE(report.whole());
    EXPECT_THAT(textOf(report), HasSubstr("notice: notes.txt"));
}

TEST(Verify, ChecksFormatAndIndexOfAFolderWithoutManifest) {
    const TempFolder temp;
    const fs::path out = publishSmallOutput(temp.path());
    fs::remove(out / kManifestFileName);
    const VerifyReport report = verify(out, 1);
    EXPECT_TRUE(report.whole()) << textOf(report);
    EXPECT_THAT(textOf(report), HasSubstr("notice: no aimerge_manifest.json"));

    fs::remove(out / "model-00002-of-00002.safetensors");
    EXPECT_THAT(
        textOf(verify(out, 1)),
        HasSubstr("1 of its tensors, lm_head.weight the first, are in model-00002-of-00002.safetensors, which is missing"));
    fs::resize_file(out / "model-00001-of-00002.safetensors", 100);
    EXPECT_THAT(textOf(verify(out, 1)), HasSubstr("model-00001-of-00002.safetensors"));
}

TEST(Verify, ChecksEveryFolderOfAListOfOmegas) {
    const TempFolder temp;
    const fs::path out = publishSmallOutput(temp.path(), {"omega-0.4", "omega-1.0"});
    writeTextFile(out / kStatisticsLogName, "log");
    EXPECT_TRUE(verify(out, 1).whole()) << textOf(verify(out, 1));
    EXPECT_EQ(verify(out, 1).tensors, 6u);

    const TensorInfo norm = test::smallLayout().find("model.norm.weight");
    flipBit(out / "omega-1.0" / test::smallLayout().shards[norm.fileIndex].fileName, norm.bytes.begin, 0);

    const VerifyReport report = verify(out, 1);
    ASSERT_EQ(report.findings.size(), 1u) << textOf(report);
    EXPECT_EQ(report.findings[0].file, "omega-1.0/model-00001-of-00002.safetensors");
    EXPECT_EQ(report.findings[0].tensor, "model.norm.weight");
}

TEST(Verify, SaysWhenThereIsNoCheckpointAtAll) {
    const TempFolder temp;
    EXPECT_THROW(verify(temp.path() / "nowhere", 1), InputError);
    EXPECT_THROW(verify(temp.path(), 1), InputError);
}

}  // namespace
}  // namespace aimerge
