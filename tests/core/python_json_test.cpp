#include "aimerge/core/python_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

TEST(PythonJson, NumbersThatJsonCannotSayAreReadAndWrittenBack) {
    // As json.dumps({...}, indent=2) writes it.
    const std::string text =
        "{\n  \"time_step_limit\": [\n    0.0,\n    Infinity\n  ],\n  \"a\": NaN,\n  \"b\": -Infinity,\n  \"c\": -1\n}";

    const Json json = parsePythonJson<Json>(text);

    EXPECT_EQ(json["time_step_limit"][1], std::numeric_limits<double>::infinity());
    EXPECT_TRUE(std::isnan(json["a"].get<double>()));
    EXPECT_EQ(json["b"], -std::numeric_limits<double>::infinity());
    EXPECT_EQ(json["c"], -1);
    EXPECT_EQ(dumpPythonJson(json, 2), text);
}

TEST(PythonJson, TheseWordsInTextsAreTexts) {
    const std::string text = R"({"NaN":"Infinity","quoted \"NaN\" \\":"-Infinity \"","end":"\\","last":NaN})";

    const Json json = parsePythonJson<Json>(text);

    EXPECT_EQ(json["NaN"], "Infinity");
    EXPECT_EQ(json["quoted \"NaN\" \\"], "-Infinity \"");
    EXPECT_EQ(json["end"], "\\");
    EXPECT_TRUE(json["last"].is_number_float());
    EXPECT_EQ(dumpPythonJson(json, -1), text);
}

TEST(PythonJson, WhatIsNoJsonStaysAnError) {
    for (const char* text :
         {"{\"a\": nan}", "{\"a\": Inf}", "{\"a\": +Infinity}", "{\"a\": NaNs}", "{NaN: 1}", "{\"a\": \"NaN}"})
        EXPECT_THROW(parsePythonJson<Json>(text), Json::exception) << text;
}

}  // namespace
}  // namespace aimerge
