// What happens to keys that nothing reads: a list for the user, an error, or nothing.

#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kSlices =
    "merge_method: linear\n"
    "slices:\n"
    "  - sources: [{model: a, layer_range: [0, 4]}]\n";

/// "LINE:COLUMN KEY" of every unread key.
std::vector<std::string> unreadOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
    std::vector<std::string> found;
    for (const UnreadKey& key : parsed(text, overrides).unread)
        found.push_back(fmt::format("{}:{} {}", key.mark.line, key.mark.column, key.key));
    return found;
}

TEST(UnreadKeys, AreListedWithTheirPlaces) {
    struct Row {
        std::string text;
        std::vector<std::string> keys;
    };
    const std::vector<Row> rows{
        {kThreeLines + "description: mine\nlicense: mit\n", {"4:1 description", "5:1 license"}},
        {kThreeLines + "random_seed: 42\n", {"4:1 random_seed"}},
        {kThreeLines + "input_model_parameters: {a: 1}\n", {"4:1 input_model_parameters"}},
        {kThreeLines + "parameters: {random_seed: 42, weight: 1}\n", {"4:14 random_seed"}},
        {kThreeLines + "parameters: {weight: {filter: mlp, value: 1, note: x}}\n", {"4:46 note"}},
        {kThreeLines + "tokenizer: {source: base, fast: true, tokens: {x: {source: a, why: b}}}\n",
         {"4:27 fast", "4:63 why"}},
        {"merge_method: linear\nmodels: [{model: a, name: first}, {model: {model: b, override_architecture: C}}]\n",
         {"2:21 name", "2:54 override_architecture"}},
        {kSlices + "    residual_weight: 0.5\n", {"4:5 residual_weight"}},
        {kSlices + "    merge_method: linear\n", {"4:5 merge_method"}},
        {kThreeLines + "dtype: float16\nparameters: {dtype: float16}\n", {"5:14 dtype"}},
    };
    for (const Row& row : rows) EXPECT_EQ(unreadOf(row.text), row.keys) << row.text;
}

TEST(UnreadKeys, NameTheNearestKnownOneOrWhatToWrite) {
    EXPECT_EQ(parsed(kThreeLines + "base: x\ntokens_source: y\n").unread[1].reason,
              "the key 'tokens_source' is not known here and is ignored; the nearest known one is 'tokenizer_source'");
    EXPECT_EQ(parsed("merge_method: ties\nmodels: [{model: a, tags: 1}]\n").unread[0].reason,
              "the key 'tags' is not known here and is ignored");
    EXPECT_EQ(
        parsed(kThreeLines + "random_seed: 1\n").unread[0].reason,
        "the key 'random_seed' is not known here and is ignored; for methods that draw random numbers write 'seed', or "
        "--set seed=N");
}

TEST(UnreadKeys, ThatHoldAnchorsAreNone) {
    const MergeConfig config = parsed(
        "x-defaults: &d {weight: 0.5}\nmerge_method: linear\nmodels: [{model: a, parameters: *d}, {model: b, x-note: 1, "
        "parameters: {<<: *d, x-more: 2}}]\n");

    EXPECT_THAT(config.unread, IsEmpty());
    EXPECT_EQ(config.slices[0].sources[1].parameters.size(), 1u);
}

TEST(UnreadKeys, OfAnOverrideAreErrors) {
    for (const char* key : {"description", "random_seed"})
        EXPECT_THAT([&] { unreadOf(kThreeLines, {key + std::string("=1")}); },
                    testing::ThrowsMessage<UsageError>(
                        testing::StartsWith(fmt::format("--set {}=1: unknown key '{}' at the top level", key, key))));
}

TEST(UnreadKeys, AreListedForACalibrationToo) {
    EXPECT_THAT(parsed("base_model: b\nnote: 1\naim: {calibration: {corpus: x}}\n", {}, ConfigUse::Calibrate).unread,
                ElementsAre(testing::Field(&UnreadKey::key, "note")));
}

TEST(Leniency, ReadsModelsAsMergekitDumpsThem) {
    for (const auto& [written, name] : std::vector<std::pair<std::string, std::string>>{
             {"{model: {path: a b}, lora: {path: c, revision: v1}}", "a b+c@v1"},
             {"{model: a, lora: b}", "a+b"},
             {"{model: {path: a, revision: v2}, lora: null}", "a@v2"}})
        EXPECT_EQ(parsed("merge_method: linear\nmodels: [{model: " + written + "}]\n").slices[0].sources[0].model, name);
}

TEST(Leniency, ReadsLayersDtypesAndFiltersAsMergekit) {
    const MergeConfig config = parsed(
        "merge_method: linear\ndtype: torch.bfloat16\nslices: [{sources: [{model: a, layer_range: [0.0, 4.0], parameters: "
        "{weight: {filter: '', value: 2}}}]}, {sources: [{model: a, layer_range: [4, 4]}]}]\n");

    EXPECT_EQ(config.dtype, Dtype::BF16);
    EXPECT_EQ(config.slices[0].sources[0].layers->to, 4);
    EXPECT_EQ(config.slices[1].sources[0].layers->from, config.slices[1].sources[0].layers->to);
    EXPECT_EQ(config.slices[0].sources[0].parameters.at("weight").number("any.tensor", 0), 2);
}

TEST(Leniency, ReadsTheBooleansOfYaml) {
    for (const auto& [text, value] :
         std::vector<std::pair<std::string, bool>>{{"on", true}, {"Off", false}, {"YES", true}, {"n", false}, {"'t'", true}})
        EXPECT_EQ(parsed(kThreeLines + "parameters: {normalize: " + text + "}\n").parameters.at("normalize").boolean("", 0),
                  value)
            << text;
}

}  // namespace
}  // namespace aimerge
