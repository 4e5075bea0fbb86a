// Merges and relaxations of the small Llama family against the reference implementations' outputs (tests/data/goldens).

#include "aimerge/config/merge_config.h"
#include "aimerge/merge/job_check.h"
#include "aimerge/merge/tensor_assembly.h"
#include "merge/golden_tensors.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

namespace aimerge {
namespace {

std::vector<std::string> namesOf(const std::function<bool(const Json&)>& wanted) {
    std::vector<std::string> names;
    for (const Json& entry : goldenEntries())
        if (wanted(entry)) names.push_back(entry.at("name"));
    return names;
}

/// The golden's config with absolute model paths. JSON is YAML.
MergeConfig configOf(const Json& entry) {
    Json config = entry.at("config");
    const std::filesystem::path family = kGoldens / ("family_" + entry.at("family").get<std::string>());
    const auto locate = [&](Json& sources) {
        for (Json& source : sources) source["model"] = (family / source["model"].get<std::string>()).string();
    };
    if (config.contains("models")) locate(config["models"]);
    if (config.contains("slices"))
        for (Json& slice : config["slices"]) locate(slice["sources"]);
    if (config.contains("base_model")) config["base_model"] = (family / config["base_model"].get<std::string>()).string();
    if (entry.contains("options") && entry.at("options").is_object())
        for (const auto& [key, value] : entry.at("options").items()) config[key] = value;
    return parseMergeConfig(config.dump(), entry.at("name"), {}, ConfigUse::Merge);
}

StatisticsByModule goldenStatistics() {
    StatisticsByModule statistics;
    for (const auto& [module, values] : goldenValues("calibration/statistics_f32.safetensors"))
        statistics[module].meanAbs = values;
    return statistics;
}

/// A whole merge, as the executor does it, into memory.
class GoldenMerge {
public:
    GoldenMerge(const MergeConfig& config, Dtype dtype, std::optional<double> omega = {}) : config_(config) {
        const Method& method = findMethod(config_.method, config_.methodMark);
        checkMergeConfig(method, config_);
        models_ = ModelSet::open(config_);
        std::optional<StatisticsByModule> statistics;
        if (omega) {
            config_.aim = AimConfig{};
            statistics = goldenStatistics();
        }
        const std::vector<MatchedTensor> matched = matchTensors(models_);
        const VocabularyAlignment alignment = alignmentOf(matched, method.info().unequalVocabularies);
        std::vector<TensorMerge> merges;
        for (const MatchedTensor& tensor : matched) {
            OutputTensor output{tensor.name, dtype,
                                tensor.inputs.at(models_.slices.at(tensor.slice).referenceInput()).tensor->shape};
            if (tensor.parameter.hasVocabularyRows) output.shape[0] = alignment.rows;
            const std::optional<Activity> activity =
                statistics ? std::optional(Activity{.statistics = {&*statistics, 1}}) : std::nullopt;
            merges.push_back(
                assembleMerge(method, config_, models_, tensor, output, &alignment, activity ? &*activity : nullptr, {}));
            names_.push_back(tensor.name);
        }
        ThreadPool threads(2);
        std::vector<std::optional<double>> omegas;
        if (omega) omegas = {*omega};
        mergeTensors(merges, omegas, DeltaRounding::None, threads, sink_);
    }

    template <typename Element>
    std::vector<Element> values(const std::string& tensor) {
        return sink_.values<Element>(static_cast<std::size_t>(std::ranges::find(names_, tensor) - names_.begin()));
    }

private:
    VocabularyAlignment alignmentOf(const std::vector<MatchedTensor>& matched, UnequalVocabularies unequal) const {
        const auto tensor = std::ranges::find_if(
            matched, [](const MatchedTensor& candidate) { return candidate.parameter.hasVocabularyRows; });
        std::vector<Vocabulary> vocabularies;
        vocabularies.reserve(models_.models.size());
        std::vector<VocabularyInput> inputs;
        for (std::size_t i = 0; i < models_.models.size(); ++i) {
            inputs.push_back({models_.models[i].name(), storedTensor(models_.models[i], tensor->name)->shape, nullptr});
            if (config_.vocabulary.source == VocabularySource::None) continue;
            inputs.back().vocabulary = &vocabularies.emplace_back(Vocabulary::read(models_.models[i].folder()));
        }
        return alignVocabularies(inputs, models_.referenceIndex(), config_.vocabulary, tensor->name, unequal);
    }

    MergeConfig config_;
    ModelSet models_;
    std::vector<std::string> names_;
    MemorySink sink_;
};

/// Elements outside atol + rtol |golden| over all tensors of the golden file.
void expectWithinTolerance(const Json& entry, GoldenMerge& merge) {
    const double atol = entry.at("tolerance").at("atol"), rtol = entry.at("tolerance").at("rtol");
    const std::size_t allowed = entry.at("tolerance").value("max_violations", std::size_t{0});
    std::size_t violations = 0;
    for (const auto& [name, golden] : goldenValues(entry.at("file").get<std::string>())) {
        const Floats got = merge.values<float>(name);
        ASSERT_EQ(got.size(), golden.size()) << name;
        for (std::size_t i = 0; i < got.size(); ++i)
            violations += !(std::abs(double{got[i]} - golden[i]) <= atol + rtol * std::abs(golden[i]));
    }
    EXPECT_LE(violations, allowed);
}

/// How many elements, as BF16, are not what the float32 golden rounds to.
struct Roundings {
    std::size_t different = 0, elements = 0, interchangeable = 0;

    void add(const Json& entry, GoldenMerge& merge) {
        interchangeable += entry.at("tolerance").value("max_violations", std::size_t{0});
        for (const auto& [name, golden] : goldenValues(entry.at("file").get<std::string>())) {
            const auto got = merge.values<std::uint16_t>(name);
            ASSERT_EQ(got.size(), golden.size()) << name;
            for (std::size_t i = 0; i < got.size(); ++i) different += got[i] != bf16FromFloat(golden[i]);
            elements += got.size();
        }
    }

    /// At most 1 in 10^5, and 1 in small files.
    void expectFew(std::size_t perHundredThousand = 1) const {
        const std::size_t share = perHundredThousand * elements / 100000;
        EXPECT_LE(different, interchangeable + std::max<std::size_t>(1, share)) << "of " << elements;
    }
};

/// Merges whose arithmetic is float32, as ours is; linear's is even under dtype bfloat16.
bool isOurArithmetic(const Json& entry) {
    return entry.at("kind") == "merge" && entry.at("name") != "bf16in_task_arithmetic_bf16";
}

std::set<std::string> goldenMethods() {
    std::set<std::string> names;
    for (const std::string& name : namesOf(isOurArithmetic))
        names.insert(goldenEntry(name).at("config").at("merge_method").get<std::string>());
    return names;
}

/// A golden's name as googletest allows it.
std::string testName(const testing::TestParamInfo<std::string>& test) {
    std::string name = test.param;
    std::ranges::replace(name, '.', '_');
    return name;
}

class GoldenMerges : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, GoldenMerges, testing::ValuesIn(namesOf(isOurArithmetic)), testName);

TEST_P(GoldenMerges, AreWithinTolerance) {
    const Json entry = goldenEntry(GetParam());
    GoldenMerge merge(configOf(entry), Dtype::F32);
    expectWithinTolerance(entry, merge);
}

class GoldenMethods : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, GoldenMethods, testing::ValuesIn(goldenMethods()), [](const auto& test) { return test.param; });

TEST_P(GoldenMethods, RoundToTheSameBf16) {
    Roundings roundings;
    for (const std::string& name : namesOf(isOurArithmetic)) {
        const Json entry = goldenEntry(name);
        if (entry.at("config").at("merge_method") != GetParam()) continue;
        GoldenMerge merge(configOf(entry), Dtype::BF16);
        roundings.add(entry, merge);
    }
    // The reference takes angles and sines in float32: a coefficient that is off by a unit in the last place moves every
    // element of a tensor by about one, and twice as many cross a boundary between two bf16 values.
    roundings.expectFew(GetParam() == "slerp" ? 2 : 1);
}

class GoldenRelaxations : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, GoldenRelaxations, testing::ValuesIn(namesOf([](const Json& entry) {
                             return entry.at("kind") == "aim" && entry.value("family", "") == "f32";
                         })),
                         testName);

TEST_P(GoldenRelaxations, AreWithinTolerance) {
    const Json entry = goldenEntry(GetParam());
    GoldenMerge merge(configOf(goldenEntry(entry.at("merge"))), Dtype::F32, entry.at("omega").get<double>());
    expectWithinTolerance(entry, merge);
}

TEST_P(GoldenRelaxations, RoundToTheSameBf16) {
    const Json entry = goldenEntry(GetParam());
    GoldenMerge merge(configOf(goldenEntry(entry.at("merge"))), Dtype::BF16, entry.at("omega").get<double>());
    Roundings roundings;
    roundings.add(entry, merge);
    roundings.expectFew();
}

// The authors' code: merged in bf16, the delta rounded to bf16, product and sum in float32, one rounding. Its own merged
// weights are given, because they were made in bf16 arithmetic.
TEST(GoldenRelaxation, OfTheReferenceCodeIsBitExact) {
    const auto base = goldenValues("family_bf16/base/model.safetensors");
    const auto merged = goldenValues("merge/bf16in_task_arithmetic_bf16.safetensors");
    const StatisticsByModule statistics = goldenStatistics();
    std::size_t elements = 0;
    for (const auto& [name, golden] : goldenValues("aim/bf16in_task_arithmetic_bf16_0.4.safetensors")) {
        const std::vector<float> a = importance(statistics.at(name.substr(0, name.rfind(".weight"))).meanAbs);
        Floats relaxed(golden.size());
        const ChannelLayout layout{.channels = static_cast<std::int64_t>(a.size()),
                                   .matrixElements = static_cast<std::int64_t>(golden.size())};
        Relaxation({a, layout}, 0.4, DeltaRounding::Bfloat16).apply(0, base.at(name), merged.at(name), relaxed);
        EXPECT_EQ(bitsOf(roundedToBf16(relaxed)), bitsOf(golden)) << name;
        elements += golden.size();
    }
    EXPECT_EQ(elements, 43200u);
}

}  // namespace
}  // namespace aimerge
