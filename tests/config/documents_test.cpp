// Config files of several documents.

#include "aimerge/config/merge_config.h"
#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kMath = "# experts in numbers\nname: math\nmerge_method: linear\nmodels: [{model: a}, {model: b}]\n";
const std::string kCode = "---\nname: code\nmerge_method: linear\nmodels: [{model: c}, {model: org/math}]\n";
const std::string kBoth = "---\nname: both\nmerge_method: slerp\nbase_model: math\nmodels: [{model: math}, {model: d}]\n";
const std::string kLast =
    "---\nmerge_method: ties\nbase_model: {model: base}\nslices: [{sources: [{model: both+adapter}, {model: ./code}]}]\n";

std::vector<MergeConfig> documentsOf(const std::string& text, const std::vector<std::string>& overrides = {},
                                     ConfigUse use = ConfigUse::Merge) {
    return parseMergeConfigs(text, "merge.yaml", overrides, use);
}

TEST(Documents, AFileOfOneHasOne) {
    const std::vector<MergeConfig> documents = documentsOf("---\n" + kMath);

    ASSERT_EQ(documents.size(), 1u);
    EXPECT_EQ(documents[0].text, "---\n" + kMath);
    EXPECT_THAT(documents[0].uses, IsEmpty());
}

TEST(Documents, KnowWhatTheyAreMadeFrom) {
    const std::vector<MergeConfig> documents = documentsOf(kMath + kCode + kBoth + kLast);

    ASSERT_EQ(documents.size(), 4u);
    EXPECT_THAT(documents[1].uses, IsEmpty()) << "org/math is another model than math";
    EXPECT_THAT(documents[2].uses, ElementsAre("math"));
    EXPECT_THAT(documents[3].uses, ElementsAre("math", "both")) << "./code is a folder";
    EXPECT_EQ(documents[2].methodMark.text(), "merge.yaml:11:15");
}

TEST(Documents, CarryTheTextThatMakesThemAgain) {
    const std::vector<MergeConfig> documents = documentsOf(kMath + kCode + kBoth + kLast);

    EXPECT_EQ(documents[1].text, kCode);
    EXPECT_EQ(documents[2].text, kMath + kBoth);
    EXPECT_EQ(documents[3].text, kMath + kBoth + kLast);
    EXPECT_EQ(documentsOf(documents[3].text).back().text, documents[3].text);
}

TEST(Documents, ComeInTheOrderInWhichTheyAreUsed) {
    const std::vector<MergeConfig> documents = documentsOf(kLast + kBoth + kCode + "---\n" + kMath);

    ASSERT_EQ(documents.size(), 4u);
    EXPECT_EQ(documents[0].name, "code") << "otherwise as in the file";
    EXPECT_EQ(documents[1].name, "math");
    EXPECT_EQ(documents[2].name, "both");
    EXPECT_EQ(documents[3].name, "");
    EXPECT_THAT(documents[3].uses, ElementsAre("math", "both"));
    EXPECT_EQ(documents[3].text, "---\n" + kMath + kBoth + kLast);
    EXPECT_EQ(documents[3].methodMark.text(), "merge.yaml:2:15");
}

TEST(Documents, CanBePutInAnotherOrderWhateverTheyBeginAndEndWith) {
    const std::string last = "# the result\nmerge_method: ties\nbase_model: math\nmodels: [{model: math}]\n";
    const std::string math = "---\nname: math\nmerge_method: linear\nmodels: [{model: a}]";  // no line end

    const std::vector<MergeConfig> documents = documentsOf(last + math);

    EXPECT_EQ(documents.back().text, math + "\n---\n" + last);
    const std::vector<MergeConfig> again = documentsOf(documents.back().text);
    EXPECT_EQ(again.back().text, documents.back().text);
    EXPECT_EQ(again.front().text, math + "\n");
    EXPECT_EQ(documentsOf(last + math, {"dtype=float16"}).back().dtype, Dtype::F16);
    EXPECT_EQ(documentsOf(documentsOf(last + math, {"dtype=float16"}).back().text).back().dtype, Dtype::F16);
}

TEST(Documents, WithNamesAllHaveTheOneThatNoOtherUsesForTheirResult) {
    const auto named = [](const std::string& name, const std::string& model) {
        return "---\nname: " + name + "\nmerge_method: linear\nmodels: [{model: " + model + "}]\n";
    };
    const auto resultOf = [](const std::string& text) { return documentsOf(text, {"dtype=float16"}).back(); };

    EXPECT_EQ(resultOf(named("top", "mid") + named("mid", "low") + named("low", "a")).name, "top");
    EXPECT_EQ(resultOf(named("mid", "low") + named("top", "mid+adapter") + named("low", "a")).name, "top");
    EXPECT_EQ(resultOf(named("top", "low") + named("low", "a")).dtype, Dtype::F16);
    EXPECT_EQ(resultOf(named("a", "x") + named("b", "y")).name, "b") << "the last, where it is one of several";
    EXPECT_THAT([&] { resultOf(named("one", "low") + named("two", "low") + named("low", "a")); },
                testing::ThrowsMessage<UsageError>(
                    testing::StartsWith("merge.yaml:6:7: no other document uses 'two', and none uses 'one'")));
}

TEST(Documents, RefusesCircles) {
    const std::string last = "merge_method: linear\nmodels: [{model: x}]\n";
    const auto named = [](const std::string& name, const std::string& model) {
        return "---\nname: " + name + "\nmerge_method: linear\nmodels: [{model: " + model + "}]\n";
    };
    const std::vector<std::pair<std::string, std::string>> rows{
        {last + named("x", "y") + named("y", "z") + named("z", "x"),
         ":4:7: documents cannot be made from each other in a circle: 'x' uses 'y', 'y' uses 'z', 'z' uses 'x' (a folder"},
        {last + named("x", "y") + named("y", "z") + named("z", "y+adapter"), "'y' uses 'z', 'z' uses 'y' (a folder"},
        {named("x", "y") + named("y", "x"), "'x' uses 'y', 'y' uses 'x' (a folder of that name is ./x)"},
        {last + named("x", "x"), "'x' uses 'x' (a folder of that name is ./x)"},
        {named("y", "a") + named("x", "x"), "'x' uses 'x'"},
    };
    for (const auto& [text, message] : rows)
        EXPECT_THAT([&text = text] { documentsOf(text); }, testing::ThrowsMessage<UsageError>(testing::HasSubstr(message)))
            << text;
}

TEST(Documents, OverridesChangeTheResult) {
    const std::vector<MergeConfig> documents = documentsOf(kMath + kCode, {"dtype=float16"});

    EXPECT_EQ(documents[0].dtype, std::nullopt);
    EXPECT_EQ(documents[1].dtype, Dtype::F16);
    EXPECT_EQ(documentsOf(documents[0].text + documents[1].text).at(1).dtype, Dtype::F16);
}

TEST(Documents, FoldersTakeThePlaceOfTheirNamesWhereverModelsAreNamed) {
    const std::string last =
        "---\nmerge_method: linear\nbase_model: math\ntokenizer: {source: math, tokens: {x: {source: math}}}\n"
        "slices: [{base_model: math, sources: [{model: math+adapter}, {model: mathematics}]}]\n";

    const MergeConfig config = withDocumentsIn("/out.intermediate", documentsOf(kMath + last).back());

    EXPECT_EQ(config.baseModel, "/out.intermediate/math");
    EXPECT_EQ(config.vocabulary.model, "/out.intermediate/math");
    EXPECT_EQ(config.vocabulary.tokens.at(0).second->model, "/out.intermediate/math");
    EXPECT_EQ(config.slices.at(0).baseModel, "/out.intermediate/math");
    EXPECT_EQ(config.slices[0].sources.at(0).model, "/out.intermediate/math+adapter");
    EXPECT_EQ(config.slices[0].sources.at(1).model, "mathematics");
    EXPECT_EQ(config.nameInFile("/out.intermediate/math+adapter"), "math+adapter");
    EXPECT_EQ(config.nameInFile("/elsewhere/math"), "/elsewhere/math");
}

TEST(Documents, CalibrateNeedsLittleOfTheLastAlone) {
    const std::vector<MergeConfig> documents =
        documentsOf(kMath + "---\nbase_model: base\naim: {calibration: {corpus: x}}\n", {}, ConfigUse::Calibrate);

    EXPECT_EQ(documents.back().baseModel, "base");
    EXPECT_THAT(documents.back().slices, IsEmpty());
}

TEST(Documents, RefusesWhatCannotBeMeant) {
    const std::string body = "merge_method: ties\nmodels: [{model: a}]\n", second = "---\n" + body;
    const std::vector<std::pair<std::string, std::string>> rows{
        {body + second,
         ":1:1: this document needs a 'name', by which others can use it; the result alone goes without, and "
         "there is another one at merge.yaml:3:1"},
        {"name: a\n" + body + second + second, ":4:1: this document needs a 'name'"},
        {"name:\n" + body + second, ":1:1: this document needs a 'name'"},
        {"name: a/b\n" + body + second, ":1:7: name becomes a folder and stands for a model: it cannot begin with '.' nor"},
        {"name: .\n" + body + second, ":1:7: name becomes a folder"},
        {"name: ..\n" + body + second, ":1:7: name becomes a folder"},
        {"name: a+b\n" + body + second, ":1:7: name becomes a folder"},
        {"name: \"a\\0b\"\n" + body + second, ":1:7: name becomes a folder"},
        {"name: a\n" + body + "---\nname: a\n" + body + second,
         ":5:7: the name 'a' is taken, by the document with merge.yaml:1:7"},
        {"name: a\n" + body + "---\nname: a\n" + body, ":5:7: the name 'a' is taken"},
        {"name: a\n" + body + "aim: {omega: [0.4], statistics: log.h5}\n" + second,
         ":4:1: aim.omega is a list, but this document is made for others and has one result"},
        {"name: a\nmodels: [{model: a}]\n" + second, ":1:1: 'merge_method' is missing"},
        {"name: a\n" + body + "---\nmerge_method: ties\n", ":4:1: 'models' is missing or empty"},
        {"name: a\n" + body + "---\n# nothing\n", ":4:1: this document is empty"},
        {"---\n---\n" + body, ":1:1: this document is empty"},
        {"name: a\n" + body + "---\nmerge_methd: ties\n", ":5:1: unknown key 'merge_methd'"},
        {"name: a\n" + body + "---\na:\n\tb: 1\n", ":6:1: not valid YAML: a tab in the indentation; use blanks"},
    };
    for (const auto& [text, message] : rows)
        EXPECT_THAT([&text = text] { documentsOf(text); },
                    testing::ThrowsMessage<UsageError>(testing::StartsWith("merge.yaml" + message)))
            << text;
    EXPECT_EQ(documentsOf("name: org/merged\n" + body).at(0).name, "org/merged") << "of a single document it is free";
}

}  // namespace
}  // namespace aimerge
