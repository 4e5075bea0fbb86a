#include "aimerge/config/yaml_document.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(YamlDocument, KnowsThePlaceOfKeysAndValues) {
    const YamlNode root = parseYaml({"a: 1\nb:\n  - x\n  - {c: 'y'}\nd:\n"}, "f.yaml");

    EXPECT_EQ(root.find("a")->mark.text(), "f.yaml:1:1");
    EXPECT_EQ(root.find("a")->value.mark.text(), "f.yaml:1:4");
    EXPECT_EQ(root.find("b")->value.items[1].find("c")->value.mark.text(), "f.yaml:4:9");
    EXPECT_TRUE(root.find("b")->value.items[1].find("c")->value.quoted);
    EXPECT_EQ(root.find("d")->value.kind, YamlNode::Kind::Null);
    EXPECT_EQ(root.find("d")->value.mark.text(), "f.yaml:5:1");
}

TEST(YamlDocument, AliasesAreExpanded) {
    const YamlNode root = parseYaml({"a: &x [1, 2]\nb: *x\n"}, "f.yaml");

    ASSERT_EQ(root.find("b")->value.items.size(), 2u);
    EXPECT_EQ(root.find("b")->value.items[1].text, "2");
}

TEST(YamlDocument, MergeKeysAddWhatIsNotWritten) {
    const YamlNode root =
        parseYaml({"x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\nq: {'<<': 3}\n"}, "f.yaml");

    const YamlNode& merged = root.find("z")->value;
    ASSERT_EQ(merged.entries.size(), 3u);
    EXPECT_EQ(merged.find("a")->value.text, "0");
    EXPECT_EQ(merged.find("b")->value.text, "1");
    EXPECT_EQ(merged.find("c")->value.text, "2");
    EXPECT_NE(root.find("q")->value.find("<<"), nullptr);
}

TEST(YamlDocument, IsReadBackAsItWasWritten) {
    const YamlNode root =
        parseYaml({"a: 'null'\nb: |\n  x: 1\n  # y\nc: ~\nd: [1e-5, '', {e: {}}]\n\"f: g\": []\n"}, "f.yaml");

    const YamlNode again = parseYaml({writeYaml(root)}, "g.yaml");

    EXPECT_EQ(again.find("a")->value.text, "null");
    EXPECT_EQ(again.find("b")->value.text, "x: 1\n# y\n");
    EXPECT_EQ(again.find("c")->value.kind, YamlNode::Kind::Null);
    EXPECT_EQ(again.find("d")->value.items[0].text, "1e-5");
    EXPECT_EQ(again.find("d")->value.items[1].kind, YamlNode::Kind::Scalar);
    EXPECT_EQ(again.find("d")->value.items[2].find("e")->value.kind, YamlNode::Kind::Mapping);
    EXPECT_EQ(again.find("f: g")->value.kind, YamlNode::Kind::Sequence);
}

TEST(YamlDocument, RefusesWhatYamlCppLetsPass) {
    std::string bomb = "l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
    for (int i = 1; i < 8; ++i) {
        std::string items;
        for (int j = 0; j < 10; ++j) items += fmt::format("{}*l{}", j == 0 ? "" : ", ", i - 1);
        bomb += fmt::format("l{}: &l{} [{}]\n", i, i, items);
    }
    const std::vector<std::pair<std::string, std::string>> rows{
        {"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key 'a' is written twice in one mapping, first in line 1"},
        {"a: {b: 1, b: 2}\n", "f.yaml:1:11: the key 'b' is written twice in one mapping"},
        {"a: &x [*x]\n", "f.yaml:1:4: nested deeper than 50 levels, or an alias that contains itself"},
        {bomb, "f.yaml:1:37: more than 100000 values after expanding the aliases"},
        {"a: 1\n...\nb: 2\n", "f.yaml:3:1: another YAML document begins after '...'; begin it with a line '---'"},
        {"a: !float16 2\n", "f.yaml:1:4: the tag '!float16' has no meaning here"},
        {"? [a, b]\n: 3\n", "f.yaml:1:3: a key must be plain text"},
        {"a: {<<: 3}\n", "f.yaml:1:9: '<<' merges a mapping or a list of mappings, found '3'"},
    };
    for (const auto& [text, message] : rows)
        EXPECT_THAT([&text = text] { parseYaml({text}, "f.yaml"); },
                    testing::ThrowsMessage<UsageError>(testing::StartsWith(message)))
            << text;
}

TEST(YamlDocument, NamesThePlaceOfASyntaxError) {
    const std::vector<std::pair<std::string, std::string>> rows{
        {"a:\n\tb: 1\n", "f.yaml:2:1: not valid YAML: a tab in the indentation; use blanks"},
        {"a:\n  \tb: 1\n", "f.yaml:2:3: not valid YAML: a tab in the indentation; use blanks"},
        {"a: b: c\n", "f.yaml:1:5: not valid YAML: illegal map value"},
        {"a: *nope\n", "f.yaml:1:4: not valid YAML: the referenced anchor is not defined"},
        {"a: [1, 2\nb: 3\n", "f.yaml:2:2: not valid YAML: end of sequence flow not found"},
    };
    for (const auto& [text, message] : rows)
        EXPECT_THAT([&text = text] { parseYaml({text}, "f.yaml"); }, testing::ThrowsMessage<UsageError>(message)) << text;
}

TEST(YamlDocument, OfSeveralKnowsItsPlaceInTheFile) {
    const std::string text =
        "# made by hand\n%YAML 1.2\n--- # first\na: |\n  ---\n  text\n---\n\nb: 2\n...\n# over\n---\r\nc: 3\n---x: 4";

    const std::vector<YamlText> documents = splitDocuments(text);

    ASSERT_EQ(documents.size(), 3u);
    EXPECT_EQ(documents[0].text + documents[1].text + documents[2].text, text);
    EXPECT_EQ(parseYaml(documents[0], "f.yaml").find("a")->value.text, "---\ntext\n");
    EXPECT_EQ(parseYaml(documents[0], "f.yaml").find("a")->mark.text(), "f.yaml:4:1");
    EXPECT_EQ(documents[1].firstLine, 7);
    EXPECT_EQ(parseYaml(documents[1], "f.yaml").find("b")->mark.text(), "f.yaml:9:1");
    EXPECT_EQ(documents[2].firstLine, 12);
    EXPECT_EQ(parseYaml(documents[2], "f.yaml").find("---x")->mark.text(), "f.yaml:14:1");
    EXPECT_EQ(splitDocuments("").size(), 1u);
    EXPECT_EQ(splitDocuments("a: 1").at(0).text, "a: 1");
}

}  // namespace
}  // namespace aimerge
