#include "aimerge/config/override.h"

#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(Override, ReplacesAndAddsValuesInOrder) {
    const MergeConfig config = parsed(kThreeLines, {"merge_method=linear", "models.1.parameters.weight=[0.5, 1]",
                                                    "aim.omega=0.2", "aim.omega=0.6", "aim.statistics=log.h5"});

    EXPECT_EQ(config.method, "linear");
    EXPECT_EQ(config.slices[0].sources[1].parameters.at("weight").conditions.at(0).values.at(1).text, "1");
    EXPECT_THAT(config.aim->omegas, testing::ElementsAre(0.6));
}

TEST(Override, ValuesAreYaml) {
    const MergeConfig config = parsed(kThreeLines, {"aim={omega: [0.2, 0.4], statistics: log.h5}", "chat_template=\"a: b\"",
                                                    "models.0.model=x=y", "base_model="});

    EXPECT_THAT(config.aim->omegas, testing::ElementsAre(0.2, 0.4));
    EXPECT_EQ(config.chatTemplate, "a: b");
    EXPECT_EQ(config.slices[0].sources[0].model, "x=y");
    EXPECT_EQ(config.baseModel, "");
}

TEST(Override, TheTextIsThatOfTheResultingConfig) {
    const MergeConfig config = parsed(kThreeLines + "chat_template: \"line\\n1: # no\"\ndtype: ~\n",
                                      {"models.0.parameters.weight=0.5", "out_dtype=float16"});

    const MergeConfig again = parsed(config.text);

    EXPECT_EQ(again.chatTemplate, "line\n1: # no");
    EXPECT_EQ(again.slices[0].sources[0].parameters.at("weight").conditions.at(0).values.at(0).text, "0.5");
    EXPECT_EQ(again.outDtype, Dtype::F16);
    EXPECT_EQ(again.dtype, std::nullopt);
    EXPECT_EQ(again.slices[0].sources[1].model, "b");
}

TEST(Override, ErrorsNameTheOverride) {
    const std::vector<std::pair<std::string, std::string>> rows{
        {"aim.omega=3", "--set aim.omega=3: aim.omega must lie in [0, 1]"},
        {"aim.omga=0.3", "--set aim.omga=0.3: unknown key 'omga' in aim; did you mean 'omega'?"},
        {"aim=", "--set aim=: aim must be a mapping with the keys omega, "},
        {"omega", "--set omega: expected path.to.key=value, for example --set aim.omega=0.4"},
        {"=3", "--set =3: expected path.to.key=value"},
        {"aim..omega=3", "--set aim..omega=3: expected path.to.key=value"},
        {".aim=3", "--set .aim=3: expected path.to.key=value"},
        {"aim.=3", "--set aim.=3: expected path.to.key=value"},
        {"models.2.model=c", "--set models.2.model=c: models is a list of 2 items; name one by its number from 0, not '2'"},
        {"models.x.model=c", "--set models.x.model=c: models is a list of 2 items; name one by its number from 0, not 'x'"},
        {"merge_method.name=c", "--set merge_method.name=c: merge_method is 'ties', it has no 'name' in it"},
        {"models=[1", "--set models=[1: not valid YAML: end of sequence flow not found"},
        {"dtype=float8", "--set dtype=float8: dtype must be one of bfloat16, float16, float32, found 'float8'"},
    };
    for (const auto& [override, message] : rows)
        EXPECT_THAT([& override = override] { parsed(kThreeLines + "aim: {omega: 1, statistics: x}\n", {override}); },
                    testing::ThrowsMessage<UsageError>(testing::StartsWith(message)))
            << override;
}

}  // namespace
}  // namespace aimerge
