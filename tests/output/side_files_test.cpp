#include "aimerge/output/side_files.h"

#include "output/small_output.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

std::vector<std::string> namesOf(const std::vector<ManifestFile>& files) {
    std::vector<std::string> names;
    for (const ManifestFile& file : files) names.push_back(file.name);
    return names;
}

TEST(SideFiles, AreWrittenAndCopiedByTheStatedList) {
    const TempFolder temp;
    const auto source = temp.path() / "source", target = temp.path() / "target";
    std::filesystem::create_directories(source / "onnx");
    std::filesystem::create_directories(source / "additional_chat_templates");
    std::filesystem::create_directories(target);
    for (const char* name :
         {"generation_config.json", "merges.txt", "qwen.tiktoken", "chat_template.jinja",
          "additional_chat_templates/rag.jinja", "model.safetensors", "config.json", "README.md", "modeling_custom.py"}) {
        writeTextFile(source / name, std::string("contents of ") + name);
    }
    const SideFiles files{nlohmann::ordered_json{{"z", 1e-05}, {"a", true}}, source, TokenizerCopy::FromSource, "# card\n",
                          "a: 1\n"};

    const std::vector<ManifestFile> entries = writeSideFiles(target, test::smallLayout(), files);

    EXPECT_THAT(namesOf(entries),
                ElementsAre(kIndexFileName, "config.json", "additional_chat_templates/rag.jinja", "chat_template.jinja",
                            "generation_config.json", "merges.txt", "qwen.tiktoken", "README.md", "mergekit_config.yml"));
    EXPECT_EQ(readTextFile(target / "config.json"), "{\n  \"z\": 1e-05,\n  \"a\": true\n}\n");
    EXPECT_EQ(readTextFile(target / "merges.txt"), "contents of merges.txt");
    for (const ManifestFile& entry : entries) EXPECT_EQ(entry, fileEntry(target, entry.name));
}

TEST(SideFiles, LeaveTheTokenizerToTheCallerAndTheIndexOutOfASingleFile) {
    const TempFolder temp;
    writeTextFile(temp.path() / "tokenizer.json", "{}");
    const SideFiles files{nlohmann::ordered_json::object(), temp.path(), TokenizerCopy::WrittenByCaller, "", ""};
    std::filesystem::create_directories(temp.path() / "target");

    const auto entries = writeSideFiles(temp.path() / "target", layOutShards({{"a", Dtype::F32, {1}}}, 100), files);

    EXPECT_THAT(namesOf(entries), ElementsAre("config.json", "README.md", "mergekit_config.yml"));
}

TEST(SideFiles, SetTheDtypeUnderTheKeyTheConfigUses) {
    using Json = nlohmann::ordered_json;
    struct Row {
        Json config, expected;
    };
    const Row rows[] = {
        {{{"torch_dtype", "float32"}, {"x", 1}}, {{"torch_dtype", "bfloat16"}, {"x", 1}}},
        {{{"dtype", "float32"}, {"x", 1}}, {{"dtype", "bfloat16"}, {"x", 1}}},
        {{{"dtype", "float32"}, {"torch_dtype", "float32"}}, {{"dtype", "bfloat16"}, {"torch_dtype", "bfloat16"}}},
        {{{"x", 1}}, {{"x", 1}, {"torch_dtype", "bfloat16"}}},
    };
    for (const Row& row : rows) EXPECT_EQ(withDtype(row.config, Dtype::BF16).dump(), row.expected.dump());
}

}  // namespace
}  // namespace aimerge
