#include "aimerge/vocabulary/chat_template.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const SourceMark kMark{"merge.yaml", 3, 16};

TEST(ChatTemplate, AutoIsTheMostCommonOneAndTheFirstOfEquals) {
    const TempFolder folder;
    writeBytes(folder / "a/tokenizer_config.json", R"({"chat_template": "{{A}}"})");
    writeBytes(folder / "b/tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "{{B}}"}]})");
    writeBytes(folder / "c/chat_template.jinja", "{{B}}");
    writeBytes(folder / "none/tokenizer_config.json", "{}");
    const std::vector<fs::path> all{folder / "a", folder / "none", folder / "b", folder / "c"};

    EXPECT_EQ(chatTemplateOf("auto", kMark, all), "{{B}}");
    EXPECT_EQ(chatTemplateOf("auto", kMark, std::span(all).first(3)), "{{A}}");

    const LogCapture log;
    EXPECT_EQ(chatTemplateOf("auto", kMark, std::span(all).subspan(1, 1)), std::nullopt);
    EXPECT_THAT(log.text(), HasSubstr("merge.yaml:3:16: no model has a chat template"));
}

TEST(ChatTemplate, IsTheOneThatTransformersWouldUse) {
    struct Row {
        std::vector<std::pair<const char*, const char*>> files;
        std::optional<std::string> expected;
    };
    const std::pair<const char*, const char*> config{"tokenizer_config.json", R"({"chat_template": "{{config}}"})"},
        jinja{"chat_template.jinja", "\n{{jinja}}\n"}, named{"additional_chat_templates/rag.jinja", "{{rag}}"},
        namedDefault{"additional_chat_templates/default.jinja", "{{named default}}"},
        processor{"chat_template.json", R"({"chat_template": "{{processor}}"})"},
        object{"tokenizer_config.json", R"({"chat_template": {"default": "{{object}}", "rag": "{{rag}}"}})"};
    const Row rows[] = {
        {{config}, "{{config}}"},
        {{object}, "{{object}}"},
        {{config, jinja}, "{{jinja}}"},
        {{config, jinja, named, processor}, "{{jinja}}"},
        {{jinja, named, namedDefault}, "{{named default}}"},
        {{config, named}, std::nullopt},
        {{config, processor}, "{{config}}"},
        {{processor}, "{{processor}}"},
    };
    for (const Row& row : rows) {
        const TempFolder folder;
        for (const auto& [name, text] : row.files) writeBytes(folder / name, text);
        const fs::path model = folder.path();
        EXPECT_EQ(chatTemplateOf("auto", kMark, std::span(&model, 1)), row.expected) << row.files.back().first;
    }
}

TEST(ChatTemplate, ThatIsNoTextIsNone) {
    const TempFolder folder;
    int number = 0;
    for (const char* text : {"5", "[]", R"([{"name": "rag", "template": "{{R}}"}])", R"(["default"])",
                             R"([{"name": "default", "template": 5}])", R"([{"name": 7}, {"name": "default"}])"}) {
        const fs::path model = folder / std::to_string(number++);
        writeBytes(model / "tokenizer_config.json", fmt::format(R"({{"chat_template": {}}})", text));
        EXPECT_EQ(chatTemplateOf("auto", kMark, std::span(&model, 1)), std::nullopt) << text;
    }
}

TEST(ChatTemplate, IsKnownByNameOrGivenAsJinja) {
    EXPECT_THAT(chatTemplateOf("chatml", kMark, {}).value(), HasSubstr("<|im_start|>"));
    for (const char* name : {"alpaca", "llama3", "mistral", "exaone"})
        EXPECT_THAT(chatTemplateOf(name, kMark, {}).value(), HasSubstr("messages")) << name;
    EXPECT_EQ(chatTemplateOf("{{ messages }}", kMark, {}), "{{ messages }}");
    EXPECT_EQ(
        messageOf<UsageError>([] { chatTemplateOf("chatlm", kMark, {}); }),
        "merge.yaml:3:16: chat_template must be one of auto, chatml, alpaca, llama3, mistral, exaone, or a Jinja text, "
        "found 'chatlm'; did you mean 'chatml'?");
}

TEST(ChatTemplate, IsTheOnlyOneWhereverLoadersLook) {
    const TempFolder folder;
    writeBytes(folder / "tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": "old"})");
    std::vector<TokenizerFile> files{{"tokenizer_config.json", folder / "tokenizer_config.json", {}},
                                     {"chat_template.json", folder / "chat_template.json", {}},
                                     {"chat_template.jinja", folder / "chat_template.jinja", {}},
                                     {"additional_chat_templates/rag.jinja", folder / "rag.jinja", {}}};

    setChatTemplate(files, "{{new}}");

    ASSERT_EQ(files.size(), 2u);
    EXPECT_TRUE(files[0].copyOf.empty());
    EXPECT_EQ(nlohmann::ordered_json::parse(files[0].text),
              nlohmann::ordered_json({{"bos_token", "<s>"}, {"chat_template", "{{new}}"}}));
    EXPECT_EQ(files[1].name, "chat_template.jinja");
    EXPECT_TRUE(files[1].copyOf.empty());
    EXPECT_EQ(files[1].text, "{{new}}");
    std::vector<TokenizerFile> none;
    setChatTemplate(none, "{{new}}");
    EXPECT_EQ(none.at(0).name, "tokenizer_config.json");
}

}  // namespace
}  // namespace aimerge
