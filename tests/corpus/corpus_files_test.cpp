#include "aimerge/corpus/corpus_files.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

TEST(CorpusFiles, OfAPatternAreThoseThatMatchByName) {
    const TempFolder folder;
    for (const char* name : {"b-2.jsonl", "b-10.jsonl", "a.txt", "b[x].txt"}) writeBytes(folder / name, "");
    std::filesystem::create_directory(folder / "b-3.jsonl");

    EXPECT_THAT(corpusFiles((folder / "b-*.jsonl").string()), ElementsAre(folder / "b-10.jsonl", folder / "b-2.jsonl"));
    EXPECT_THAT(corpusFiles((folder / "b[x].txt").string()), ElementsAre(folder / "b[x].txt"));
    EXPECT_THAT(findCorpusFiles((folder / "c*").string()), IsEmpty());
    EXPECT_THAT([&] { corpusFiles((folder / "c*").string()); },
                ThrowsMessage<InputError>(HasSubstr("no file matches this pattern")));
    EXPECT_THAT([&] { corpusFiles((folder / "c").string()); }, ThrowsMessage<InputError>(HasSubstr("no such file")));
}

TEST(CorpusFiles, OfAFolderAreItsTexts) {
    const TempFolder folder;
    for (const char* name :
         {"train-1.parquet", "train-0.parquet", "README.md", ".gitattributes", "dataset_info.json", "x.txt.gz"})
        writeBytes(folder / name, "");

    EXPECT_THAT(corpusFiles(folder.path().string()),
                ElementsAre(folder / "train-0.parquet", folder / "train-1.parquet", folder / "x.txt.gz"));
}

TEST(CorpusFiles, OfASavedDataSetAreThoseThatItsStateLists) {
    const TempFolder folder;
    for (const char* name : {"data-0.arrow", "data-1.arrow", "cache-1.arrow"}) writeBytes(folder / name, "");
    const std::string path = folder.path().string();

    writeBytes(folder / "state.json", R"({"_data_files": [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]})");
    EXPECT_THAT(corpusFiles(path), ElementsAre(folder / "data-1.arrow", folder / "data-0.arrow"));
    writeBytes(folder / "state.json", R"({"_data_files": [{"filename": "data-2.arrow"}]})");
    EXPECT_THAT([&] { corpusFiles(path); }, ThrowsMessage<InputError>(HasSubstr("data-2.arrow: the file is missing")));
    writeBytes(folder / "state.json", R"({"_data_files": [1]})");
    EXPECT_THAT([&] { corpusFiles(path); },
                ThrowsMessage<InputError>(HasSubstr("an entry of '_data_files' has no 'filename'")));
    writeBytes(folder / "state.json", "{");
    EXPECT_THAT([&] { corpusFiles(path); }, ThrowsMessage<InputError>(HasSubstr("state.json: not a JSON object")));
}

TEST(CorpusFiles, WithoutATextAreRefused) {
    const TempFolder folder;
    writeBytes(folder / "README.md", "");

    EXPECT_THAT([&] { corpusFiles(folder.path().string()); },
                ThrowsMessage<InputError>(HasSubstr("the folder has no text file")));
    EXPECT_THAT([&] { textFormatOf("a.parquet.gz"); },
                ThrowsMessage<InputError>(HasSubstr("a file of this name is not known as text")));
}

}  // namespace
}  // namespace aimerge
