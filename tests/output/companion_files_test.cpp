#include "aimerge/output/companion_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

void write(const fs::path& folder, std::initializer_list<const char*> names) {
    for (const char* name : names) writeBytes(folder / name, std::string("contents of ") + name);
}

TEST(CompanionFiles, AreThoseOfProcessorsAndGeneration) {
    const TempFolder folder;
    write(folder.path(), {"generation_config.json", "preprocessor_config.json", "processor_config.json",
                          "video_preprocessor_config.json", "config.json", "tokenizer.json", "README.md", "notes.json",
                          "model.safetensors", "pytorch_model.bin", "onnx/preprocessor_config.json", "train.py"});

    EXPECT_THAT(companionFiles(folder.path()), ElementsAre("generation_config.json", "preprocessor_config.json",
                                                           "processor_config.json", "video_preprocessor_config.json"));
}

TEST(CompanionFiles, HaveTheCodeThatAConfigNames) {
    for (const char* config : {"config.json", "tokenizer_config.json", "processor_config.json"}) {
        const TempFolder folder;
        write(folder.path(), {"modeling_custom.py", "layers.py"});
        writeBytes(folder / "config.json", "{}");
        EXPECT_THAT(companionFiles(folder.path()), IsEmpty());
        writeBytes(folder / config,
                   R"({"auto_map": {"AutoModel": "modeling_custom.Model", "AutoTokenizer": [null, "fast.T"]}})");

        EXPECT_THAT(companionFiles(folder.path()), testing::IsSupersetOf({"layers.py", "modeling_custom.py"})) << config;
    }
}

TEST(CompanionFiles, HaveNoCodeWhereItLiesInAnotherRepository) {
    const TempFolder folder;
    write(folder.path(), {"train.py"});
    writeBytes(folder / "config.json", R"({"auto_map": {"AutoModel": "org/name--modeling_custom.Model"}})");
    const LogCapture log;

    sayCompanions({"m", folder.path()}, {});

    EXPECT_THAT(companionFiles(folder.path()), IsEmpty());
    EXPECT_THAT(log.text(), IsEmpty());
}

TEST(CompanionFiles, HaveTheFoldersOfModules) {
    const TempFolder folder;
    write(folder.path(), {"config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json",
                          "2_Dense/config.json", "2_Dense/model.safetensors", "3_Other/config.json", "custom_st.py"});
    writeBytes(folder / "modules.json", R"([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}])");

    EXPECT_THAT(companionFiles(folder.path()),
                ElementsAre("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                            "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"));

    writeBytes(folder / "modules.json", R"([{"path": "", "type": "custom_st.Transformer"}])");

    EXPECT_THAT(companionFiles(folder.path()), testing::Contains("custom_st.py"));
}

TEST(CompanionFiles, DoNotLeaveTheFolder) {
    for (const char* path : {"../other", "/etc", "a/../../b"}) {
        const TempFolder folder;
        writeBytes(folder / "modules.json", std::string(R"([{"path": ")") + path + R"(", "type": "x"}])");

        EXPECT_THAT(messageOf<InputError>([&] { companionFiles(folder.path()); }),
                    AllOf(HasSubstr("modules.json"), HasSubstr(path)));
    }
}

TEST(CompanionFiles, AreSaidWhereTheyDiffer) {
    const TempFolder folder;
    const fs::path base = folder / "base", a = folder / "a", b = folder / "b";
    writeBytes(base / "config.json", R"({"auto_map": {"AutoModel": "modeling.Model", "AutoConfig": "lost.Config"}})");
    writeBytes(base / "modeling.py", "x = 1");
    writeBytes(base / "processor_config.json", R"({"size": 1, "transformers_version": "4"})");
    writeBytes(base / "preprocessor_config.json", R"({"size": 1, "crop": 2, "transformers_version": "4"})");
    for (const fs::path& other : {a, b}) {
        writeBytes(other / "config.json", "{}");
        writeBytes(other / "processor_config.json", R"({"size": 3})");
        writeBytes(other / "preprocessor_config.json", R"({"transformers_version": "5", "crop": 2, "size": 1})");
    }
    writeBytes(b / "modules.json", "[]");
    const LogCapture log;

    sayCompanions({"base", base}, std::vector<NamedFolder>{{"a", a}, {"b", b}, {"base again", base}});

    EXPECT_THAT(
        log.text(),
        AllOf(HasSubstr("base: its code comes along (modeling.py)"), HasSubstr("base: auto_map names lost.py, which"),
              HasSubstr("differ from those of base, which the output gets: processor_config.json (a, b)\n"),
              HasSubstr("that base does not have are left out: modules.json (b)"), Not(HasSubstr("preprocessor")),
              Not(HasSubstr("base again"))));
}

}  // namespace
}  // namespace aimerge
