#include "aimerge/config/parameter.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

constexpr std::string_view kTensor = "model.layers.3.self_attn.q_proj.weight";

ConditionalValue condition(const std::string& filter, const std::vector<std::string>& values) {
    ConditionalValue result{.filter = filter, .values = {}};
    for (const std::string& text : values)
        result.values.push_back({.text = text, .mark = {.file = "merge.yaml", .line = 12, .column = 7}});
    return result;
}

ParameterSetting gradient(const std::vector<std::string>& values) {
    return {.conditions = {condition("", values)}, .mark = {}, .name = "parameters.weight"};
}

TEST(ParameterSetting, AScalarIsTheSameEverywhere) {
    for (double depth : {0.0, 0.3, 1.0}) {
        EXPECT_EQ(gradient({"0.7"}).number(kTensor, depth), 0.7);
        EXPECT_EQ(gradient({"true"}).boolean(kTensor, depth), true);
    }
}

TEST(ParameterSetting, AGradientIsInterpolatedOverDepth) {
    const ParameterSetting setting = gradient({"0", "1", "5"});
    EXPECT_EQ(setting.number(kTensor, 0), 0);
    EXPECT_EQ(setting.number(kTensor, 0.25), 0.5);
    EXPECT_EQ(setting.number(kTensor, 0.5), 1);
    EXPECT_EQ(setting.number(kTensor, 0.625), 2);
    EXPECT_EQ(setting.number(kTensor, 1), 5);
}

// Layer 1 of 4 in a gradient of two: (1 - f) s0 + f s1 in double with f = 1/3, not s0 + f (s1 - s0).
TEST(ParameterSetting, InterpolationIsTheFormulaOfMergekitToTheBit) {
    const double fraction = 1.0 / 3;
    EXPECT_EQ(gradient({"0.1", "0.7"}).number(kTensor, fraction), (1 - fraction) * 0.1 + fraction * 0.7);
}

TEST(ParameterSetting, OctalNumbersOfYaml11AreNoNumbers) {
    for (const char* text : {"010", "-07", "00"}) EXPECT_THROW(gradient({text}).number(kTensor, 0), UsageError) << text;
    EXPECT_EQ(gradient({"0.10"}).number(kTensor, 0), 0.1);
    EXPECT_EQ(gradient({"-0e1"}).number(kTensor, 0), 0);
}

TEST(ParameterSetting, BooleansAreNotInterpolated) {
    const ParameterSetting setting = gradient({"true", "false", "true"});
    EXPECT_EQ(setting.boolean(kTensor, 0.49), true);
    EXPECT_EQ(setting.boolean(kTensor, 0.5), false);
    EXPECT_EQ(setting.boolean(kTensor, 0.99), false);
    EXPECT_EQ(setting.boolean(kTensor, 1), true);
}

TEST(ParameterSetting, TheFirstMatchingFilterWins) {
    const ParameterSetting setting{.conditions = {condition("mlp", {"1"}), condition("self_attn", {"2"}),
                                                  condition("q_proj", {"3"}), condition("*", {"4"}), condition("", {"5"})},
                                   .mark = {},
                                   .name = {}};
    EXPECT_EQ(setting.number(kTensor, 0), 2);
    EXPECT_EQ(setting.number("model.layers.0.mlp.up_proj.weight", 0), 1);
    EXPECT_EQ(setting.number("lm_head.weight", 0), 4);
}

TEST(ParameterSetting, HasNoValueWhereNoFilterMatches) {
    const ParameterSetting setting{.conditions = {condition("mlp", {"1"})}, .mark = {}, .name = {}};
    EXPECT_EQ(setting.number(kTensor, 0), std::nullopt);
    EXPECT_EQ(setting.boolean(kTensor, 0), std::nullopt);
    EXPECT_EQ(ParameterSetting{}.number(kTensor, 0), std::nullopt);
}

TEST(ParameterSetting, ReadsNumbersInDecimalNotation) {
    const std::vector<std::pair<std::string, double>> rows{{"1e-5", 1e-5}, {"+2", 2},   {"-0.5", -0.5},
                                                           {".5", 0.5},    {"3.", 3.0}, {"1E3", 1000}};
    for (const auto& [text, number] : rows) EXPECT_EQ(gradient({text}).number(kTensor, 0), number) << text;
}

TEST(ParameterSetting, RefusesWhatIsNoNumberWithItsPlace) {
    for (const char* text :
         {"", "abc", "true", "1.0x", ".nan", "nan", ".inf", "inf", "-inf", "1e999", "0x10", "1 2", "+-1", "++1"})
        EXPECT_THAT([&] { gradient({text}).number(kTensor, 0); },
                    testing::ThrowsMessage<UsageError>(
                        fmt::format("merge.yaml:12:7: parameters.weight must be a finite number, found '{}'", text)))
            << text;
}

TEST(ParameterSetting, ReadsBooleansInAllSpellings) {
    for (const char* text : {"true", "True", "yes", "YES", "on", "y", "1", "0.5"})
        EXPECT_EQ(gradient({text}).boolean(kTensor, 0), true) << text;
    for (const char* text : {"false", "FALSE", "no", "Off", "f", "0", "0.0"})
        EXPECT_EQ(gradient({text}).boolean(kTensor, 0), false) << text;
    for (const char* text : {"", "onn", "maybe", ".nan"})
        EXPECT_THAT([&] { gradient({text}).boolean(kTensor, 0); },
                    testing::ThrowsMessage<UsageError>(
                        fmt::format("merge.yaml:12:7: parameters.weight must be true or false, found '{}'", text)))
            << text;
}

TEST(SourceMark, NamesFileLineAndColumnWhereThereAreThese) {
    EXPECT_EQ((SourceMark{.file = "merge.yaml", .line = 12, .column = 7}.text()), "merge.yaml:12:7");
    EXPECT_EQ(SourceMark{.file = "--set a=1"}.text(), "--set a=1");
}

}  // namespace
}  // namespace aimerge
