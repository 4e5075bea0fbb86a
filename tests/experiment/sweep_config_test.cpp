#include "aimerge/experiment/sweep_config.h"

#include "aimerge/core/error.h"
#include "aimerge/experiment/point_filter.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <stdexcept>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::string kSweep = R"(base_model: b
experts: {code: c, instruct: i, math: m}
methods:
  - task_arithmetic
  - {merge_method: ties, name: ties-half, parameters: {density: 0.5}}
omega: [1.0, 0.4]
dtype: bfloat16
aim: {calibration: {corpus: text.txt}}
output: {directory: out}
)";

SweepConfig parsed(const std::string& text, const std::vector<std::string>& overrides = {}) {
    return parseSweepConfig(text, "s.yaml", overrides);
}

std::string with(const std::string& line, const std::string& other) {
    std::string text = kSweep;
    return text.replace(text.find(line), line.size(), other);
}

std::vector<std::string> namesOf(const SweepConfig& sweep) {
    std::vector<std::string> names;
    for (const SweepPoint& point : sweep.points) names.push_back(point.name);
    return names;
}

TEST(SweepConfig, HasBaseExpertsAndEveryMethodOverEveryCombinationWithEveryOmega) {
    const SweepConfig sweep = parsed(with("experts: {code: c, instruct: i, math: m}", "experts: {code: c, math: m}"));

    EXPECT_THAT(namesOf(sweep), ElementsAre("base", "code", "math", "task_arithmetic-code+math-omega-1.0",
                                            "task_arithmetic-code+math-omega-0.4", "ties-half-code+math-omega-1.0",
                                            "ties-half-code+math-omega-0.4"));
    EXPECT_EQ(parsed(kSweep).points.size(), 4u + 2 * 4 * 2);
    EXPECT_EQ(sweep.points[1].model, "c");
    EXPECT_EQ(sweep.keep, Keep::Checkpoints);
    EXPECT_EQ(sweep.directory, "out");
}

TEST(SweepConfig, AllCombinationsHaveTwoExpertsOrMoreTheSmallOnesFirst) {
    std::vector<std::string> combinations;
    for (const SweepPoint& point : parsed(kSweep).points)
        if (point.method == "ties-half" && point.omega == 1.0) combinations.push_back(point.combination);

    EXPECT_THAT(combinations, ElementsAre("code+instruct", "code+math", "instruct+math", "code+instruct+math"));
}

TEST(SweepConfig, APointIsTheMergeConfigThatMakesIt) {
    const SweepConfig sweep = parsed(with("omega: [1.0, 0.4]", "combinations: [[math, code]]\nomega: [1.0, 0.4]"));
    const SweepPoint& plain = sweep.points.at(4);
    const SweepPoint& relaxed = sweep.points.at(7);

    EXPECT_EQ(plain.name, "task_arithmetic-code+math-omega-1.0");
    EXPECT_FALSE(plain.isRelaxed());
    EXPECT_FALSE(plain.config->aim);
    const Slice& slice = plain.config->slices.at(0);
    EXPECT_EQ(slice.sources.at(0).model, "c");
    EXPECT_EQ(slice.sources.at(0).parameters.at("weight").number("x", 0), 1.0);
    EXPECT_EQ(plain.config->dtype, Dtype::BF16);

    EXPECT_EQ(relaxed.name, "ties-half-code+math-omega-0.4");
    EXPECT_EQ(relaxed.config->method, "ties");
    EXPECT_EQ(relaxed.config->parameters.at("density").number("x", 0), 0.5);
    EXPECT_THAT(relaxed.config->aim->omegas, ElementsAre(0.4));
    EXPECT_FALSE(relaxed.config->aim->omegaIsList);
    const MergeConfig again = parseMergeConfig(relaxed.config->text, "again.yaml", {}, ConfigUse::Merge);
    EXPECT_EQ(again.method, "ties");
    EXPECT_THAT(again.aim->omegas, ElementsAre(0.4));
    EXPECT_EQ(again.aim->calibration.inputName(), "text.txt");
}

TEST(SweepConfig, AMethodMayBeRelaxedInAnotherWay) {
    const SweepConfig sweep = parsed(with("  - task_arithmetic\n",
                                          "  - {merge_method: task_arithmetic, name: plain}\n"
                                          "  - {merge_method: task_arithmetic, name: other, aim: {statistic: rms, "
                                          "control: shuffled}}\n"));
    const auto configOf = [&](const std::string& name) -> const MergeConfig& {
        return *std::ranges::find(sweep.points, name, &SweepPoint::name)->config;
    };
    EXPECT_EQ(configOf("plain-code+math-omega-0.4").aim->statistic, Statistic::MeanAbs);
    const AimConfig& other = *configOf("other-code+math-omega-0.4").aim;
    EXPECT_EQ(other.statistic, Statistic::Rms);
    EXPECT_EQ(other.control, AimControl::Shuffled);
    EXPECT_EQ(other.calibration.inputName(), "text.txt");
    EXPECT_EQ(configOf("other-code+math-omega-1.0").text, configOf("plain-code+math-omega-1.0").text);
}

TEST(SweepConfig, AWeightThatTheSweepNamesStays) {
    const SweepConfig sweep =
        parsed(with("  - task_arithmetic\n", "  - {merge_method: task_arithmetic, parameters: {weight: 0.5}}\n"));

    const MergeConfig& config = *sweep.points.at(4).config;
    EXPECT_TRUE(config.slices.at(0).sources.at(0).parameters.empty());
    EXPECT_EQ(config.parameters.at("weight").number("x", 0), 0.5);
}

/// Two experts; task_arithmetic takes no density, and ties-half has one of its own.
std::string withGrid(const std::string& grid) {
    std::string text = with("omega: [1.0, 0.4]", "grid: " + grid + "\nomega: [1.0, 0.4]");
    return text.replace(text.find("code: c, instruct: i, math: m"), 29, "code: c, math: m");
}

const SweepPoint& pointOf(const SweepConfig& sweep, const std::string& name) {
    const auto point = std::ranges::find(sweep.points, name, &SweepPoint::name);
    if (point == sweep.points.end()) throw std::out_of_range(name);
    return *point;
}

TEST(SweepConfig, AGridMultipliesThePointsOfTheMethodsThatTakeIt) {
    const SweepConfig sweep = parsed(withGrid("{lambda: [0.50, 1]}"));

    EXPECT_THAT(
        namesOf(sweep),
        ElementsAre("base", "code", "math",  //
                    "task_arithmetic-code+math-lambda-0.5-omega-1.0", "task_arithmetic-code+math-lambda-0.5-omega-0.4",
                    "task_arithmetic-code+math-lambda-1-omega-1.0", "task_arithmetic-code+math-lambda-1-omega-0.4",
                    "ties-half-code+math-lambda-0.5-omega-1.0", "ties-half-code+math-lambda-0.5-omega-0.4",
                    "ties-half-code+math-lambda-1-omega-1.0", "ties-half-code+math-lambda-1-omega-0.4"));
}

TEST(SweepConfig, AListThatNoMethodOfTheSweepTakesHasNoPoints) {
    const std::string text = withGrid("{density: [0.2, 0.5]}");
    EXPECT_THAT(
        [&] { parsed(text); },
        ThrowsMessage<UsageError>(HasSubstr("s.yaml:6:8: grid.density has no effect: ties-half has a value of its own")));
}

TEST(SweepConfig, WhoDoesNotTakeAListIsSaidOnce) {
    std::string text = withGrid("{density: [0.2, 0.5]}");
    text.replace(text.find("  - {merge"), 0, "  - ties\n");
    const SweepConfig sweep = parsed(text);

    EXPECT_THAT(sweep.remarks, ElementsAre("s.yaml:7:8: grid.density: not of task_arithmetic, which has no such parameter",
                                           "s.yaml:7:8: grid.density: not of ties-half, which has a value of its own"));
    EXPECT_EQ(sweep.points.size(), 3u + 2 + 2 * 2 + 2);
    EXPECT_EQ(pointOf(sweep, "ties-code+math-density-0.2-omega-0.4").config->parameters.at("density").number("x", 0), 0.2);
    EXPECT_EQ(pointOf(sweep, "ties-half-code+math-omega-0.4").config->parameters.at("density").number("x", 0), 0.5);
}

TEST(SweepConfig, ExpertsHaveValuesOfTheirOwn) {
    const SweepConfig sweep =
        parsed(with("omega: [1.0, 0.4]", "grid: {weight: {code: [0.4, 0.8], math: [0.25, 0.5]}}\nomega: 1"));
    const auto weightsOf = [&](const std::string& name) {
        std::vector<double> weights;
        for (const ModelEntry& entry : pointOf(sweep, name).config->slices.at(0).sources)
            weights.push_back(*entry.parameters.at("weight").number("x", 0));
        return weights;
    };

    EXPECT_EQ(sweep.points.size(), 4u + 2 * (2 + 4 + 2 + 4)) << "code+instruct, code+math, instruct+math, all three";
    EXPECT_THAT(weightsOf("ties-half-code+math-weight_code-0.4-weight_math-0.5-omega-1.0"), ElementsAre(0.4, 0.5));
    EXPECT_THAT(weightsOf("task_arithmetic-code+instruct+math-weight_code-0.8-weight_math-0.25-omega-1.0"),
                ElementsAre(0.8, 1.0, 0.25));
    EXPECT_THAT(weightsOf("task_arithmetic-instruct+math-weight_math-0.25-omega-1.0"), ElementsAre(1.0, 0.25));
}

TEST(SweepConfig, OneWeightForAllTakesThePlaceOfTheDefault) {
    const SweepConfig sweep = parsed(withGrid("{weight: [0.3, 0.6]}"));
    const MergeConfig& config = *pointOf(sweep, "ties-half-code+math-weight-0.3-omega-0.4").config;

    EXPECT_TRUE(config.slices.at(0).sources.at(0).parameters.empty());
    EXPECT_EQ(config.parameters.at("weight").number("x", 0), 0.3);
    EXPECT_EQ(config.parameters.at("density").number("x", 0), 0.5);
    const MergeConfig again = parseMergeConfig(config.text, "again.yaml", {}, ConfigUse::Merge);
    EXPECT_EQ(again.parameters.at("weight").number("x", 0), 0.3);
}

TEST(SweepConfig, AimOfTheGridMultipliesRelaxedPointsAlone) {
    const SweepConfig sweep = parsed(withGrid("{aim: {shape: [linear, \"top:0.2\"]}}"));

    EXPECT_EQ(sweep.points.size(), 3u + 2 * (1 + 2));
    EXPECT_EQ(pointOf(sweep, "ties-half-code+math-aim_shape-top-0.2-omega-0.4").config->aim->shape, RelaxationShape::Top);
    EXPECT_EQ(pointOf(sweep, "ties-half-code+math-aim_shape-linear-omega-0.4").config->aim->shape, RelaxationShape::Linear);
    EXPECT_EQ(*pointOf(sweep, "ties-half-code+math-aim_shape-top-0.2-omega-0.4").gridValue("aim_shape"), "top:0.2");
    EXPECT_TRUE(pointOf(sweep, "ties-half-code+math-omega-1.0").grid.empty());
}

TEST(SweepConfig, MoreValuesLeaveTheOtherPointsAsTheyAre) {
    const SweepConfig plain = parsed(withGrid("{lambda: [0.5]}")), other = parsed(withGrid("{lambda: [0.5, 0.7]}"));
    for (const SweepPoint& point : plain.points)
        if (point.config) {
            EXPECT_EQ(point.config->text, pointOf(other, point.name).config->text) << point.name;
        }
}

TEST(SweepConfig, ANameThatNoFolderCanHaveIsRefused) {
    const std::string text = with("code: c", fmt::format("{:x>230}: c", ""));
    EXPECT_THAT([&] { parsed(text); }, ThrowsMessage<UsageError>(HasSubstr("is too long for a folder's name")));
}

TEST(SweepConfig, NamesWhatIsWrongWithAGrid) {
    for (const auto& [grid, message] : std::vector<std::pair<std::string, std::string>>{
             {"{lamda: [1]}", "s.yaml:6:8: grid.lamda: no method of the sweep takes 'lamda'; did you mean 'lambda'?"},
             {"{gamma: [1]}", "no method of the sweep takes 'gamma'; they have weight, lambda, normalize, density, rescale"},
             {"{int8_mask: [true]}", "no method of the sweep takes 'int8_mask'"},
             {"{lambda: {code: [1]}}", "grid.lambda.code: 'lambda' is one value for all models"},
             {"{weight: {cod: [1]}}", "unknown key 'cod' in grid.weight; did you mean 'code'?"},
             {"{lambda: []}", "grid.lambda must be a list of values, found an empty list"},
             {"{lambda: }", "grid.lambda must be a list of values, found nothing"},
             {"{lambda: [[0, 1]]}", "s.yaml:6:17: grid.lambda must be a list of single values, found a list"},
             {"{lambda: [0.2, 0.20]}", "s.yaml:6:22: grid.lambda has the value 0.2 twice"},
             {"{lambda: [a/b]}", "a value of a grid is a number, or a word"},
             {"{lambda: [much]}", "s.yaml:6:17:"},
             {"{weight: [.inf]}", "s.yaml:6:17:"},
             {"[lambda]", "grid must be a mapping of parameters to lists of values, found a list"},
             {"{aim: {shap: [linear]}}", "unknown key 'shap' in grid.aim; did you mean 'shape'?"},
             {"{aim: {shape: [round]}}", "s.yaml:6:22: aim.shape is linear, power:P"}}) {
        const std::string text = withGrid(grid);
        EXPECT_THAT([&] { parsed(text); }, ThrowsMessage<UsageError>(HasSubstr(message))) << grid;
    }
    EXPECT_THAT([] { parsed(withGrid("{aim: {shape: [linear]}}"), {"aim.shape=linear"}); },
                ThrowsMessage<UsageError>(HasSubstr("grid.aim.shape and aim.shape are both there")));
    EXPECT_THAT([] { parsed(withGrid("{aim: {shape: [linear]}}"), {"omega=1"}); },
                ThrowsMessage<UsageError>(HasSubstr("grid.aim.shape has no effect: no omega is below 1")));
    EXPECT_THAT([] { parsed(withGrid("{weight: {math: [1]}}"), {"combinations=[[code]]"}); },
                ThrowsMessage<UsageError>(HasSubstr("grid.weight.math has no effect: math is in no combination")));
}

TEST(SweepConfig, OverridesApplyToTheSweep) {
    EXPECT_EQ(parsed(kSweep, {"output.directory=elsewhere"}).directory, "elsewhere");
    EXPECT_EQ(parsed(kSweep, {"omega=1"}).points.size(), 4u + 2 * 4);
}

TEST(SweepConfig, NamesThePlaceOfWhatIsWrong) {
    for (const auto& [line, other, message] : std::vector<std::tuple<std::string, std::string, std::string>>{
             {"base_model: b\n", "", "s.yaml: 'base_model' is missing"},
             {"omega: [1.0, 0.4]", "omega: [1.0, 1.5]", "s.yaml:6:14: omega is 1.5, expected a number from 0 to 1"},
             {"omega: [1.0, 0.4]", "omega: [0.4, 0.4]", "omega 0.4 stands twice"},
             {"aim: {calibration: {corpus: text.txt}}\n", "", "'aim' is missing: omega below 1"},
             {"aim: {calibration", "aim: {omega: 0.4, calibration",
              "s.yaml:8:7: aim.omega: a sweep's values stand in 'omega'"},
             {"corpus: text.txt", "corpus: text.txt, sequential: true", "a sweep's points share one calibration"},
             {"  - task_arithmetic\n", "  - task_aritmetic\n", "task_arithmetic"},
             {"  - task_arithmetic\n", "  - {merge_method: ties, aim: {calibration: {}}}\n",
              "s.yaml:4:32: unknown key 'calibration' in methods.aim"},
             {"  - task_arithmetic\n", "  - {merge_method: ties, aim: {statistic: mean}}\n", "aim.statistic must be one of"},
             {"  - task_arithmetic\n", "  - {merge_method: ties, name: ties-half}\n", "two methods are called ties-half"},
             {"parameters: {density: 0.5}", "parameters: {dencity: 0.5}", "density"},
             {"parameters: {density: 0.5}", "parameters: {density: 1.5}", "s.yaml:5:"},
             {"omega:", "combinations: [[code, maths]]\nomega:", "there is no expert maths"},
             {"omega:", "combinations: [[code, code]]\nomega:", "code stands twice in a combination"},
             {"omega:", "combinations: [[code, math], [math, code]]\nomega:", "this combination is there already"},
             {"code: c", "base: c", "an expert cannot be called base"},
             {"code: c", "a/b: c", "must consist of letters"},
             {"directory: out", "keep: scores", "output.directory is missing"},
             {"directory: out", "directory: out, keep: scores", "there are no evaluation.suites"},
             {"directory: out", "directory: out, keep: none", "keep"},
             {"dtype: bfloat16", "dtype: bfloat16\nomegas: 1", "omegas"}}) {
        const std::string text = with(line, other);
        EXPECT_THAT([&] { parsed(text); }, ThrowsMessage<UsageError>(HasSubstr(message))) << other;
    }
}

TEST(SweepConfig, TooManyPointsAreOneLine) {
    std::string omegas;
    for (int i = 0; i <= 5000; ++i) omegas += fmt::format("{}{}", i == 0 ? "" : ", ", i / 5000.0);
    std::string experts;
    for (int i = 0; i < 5; ++i) experts += fmt::format("e{}: m{}, ", i, i);

    std::string text = with("omega: [1.0, 0.4]", "omega: [" + omegas + "]");
    text.replace(text.find("code: c, instruct: i, math: m"), 29, experts);
    EXPECT_THAT([&] { parsed(text); }, ThrowsMessage<UsageError>(HasSubstr("are 260052 points; at most 100000")));
}

TEST(PointFilter, TakesKeysOfTheGrid) {
    const SweepConfig sweep = parsed(withGrid("{lambda: [0.5, 1, 2], aim: {shape: [linear, \"top:0.2\"]}}"));
    const auto passing = [&](const std::vector<std::string>& conditions) {
        const PointFilter filter(conditions, gridKeysOf(sweep.points));
        return std::ranges::count_if(sweep.points, [&](const SweepPoint& point) { return filter.passes(point); });
    };

    EXPECT_EQ(passing({}), 3 + 2 * 3 * 3);
    EXPECT_EQ(passing({"lambda=0.50"}), 3 + 2 * 3);
    EXPECT_EQ(passing({"lambda=1,lambda=2,omega=1"}), 3 + 2 * 2);
    EXPECT_EQ(passing({"aim_shape=top:0.2,method=ties-half"}), 3 + 3);
    EXPECT_THAT([&] { passing({"density=1"}); }, ThrowsMessage<UsageError>(HasSubstr("or of the grid lambda=, aim_shape=")));
}

TEST(PointFilter, TakesAlternativesOfOneKeyAndAllKeysTogether) {
    const SweepConfig sweep = parsed(kSweep);
    const auto passing = [&](const std::vector<std::string>& conditions) {
        const PointFilter filter(conditions);
        return std::ranges::count_if(sweep.points, [&](const SweepPoint& point) { return filter.passes(point); });
    };

    EXPECT_EQ(passing({}), 20);
    EXPECT_EQ(passing({"method=ties-half"}), 4 + 8);
    EXPECT_EQ(passing({"method=ties-half,omega=0.4"}), 4 + 4);
    EXPECT_EQ(passing({"combination=code+math", "combination=code+instruct,omega=1"}), 4 + 4);
    EXPECT_THAT([] { PointFilter({"methods=ties"}); }, ThrowsMessage<UsageError>(HasSubstr("--only methods=ties")));
    EXPECT_THAT([] { PointFilter({"density=1"}); }, ThrowsMessage<UsageError>(HasSubstr("--only density=1")));
    EXPECT_THAT([] { PointFilter({"omega=x"}); }, ThrowsMessage<UsageError>(HasSubstr("x is no number")));
}

}  // namespace
}  // namespace aimerge
