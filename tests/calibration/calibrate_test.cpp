// Run with 1, 2, 3 and 4 ranks: with four, one rank has no layer.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/core/error.h"
#include "calibration/stage_run.h"
#include "calibration/statistics_observer.h"
#include "corpus/golden_corpus.h"
#include "support/mpi_world.h"
#include "support/temp_folder.h"
#include "support/test_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <c10/core/InferenceMode.h>

#include <limits>

namespace aimerge {
namespace {

using testing::HasSubstr;

/// Of a rank that has seen the whole corpus.
StatisticsByModule byModule(const SumsByInput& inputs, const DecoderDescription& decoder) {
    StatisticsByModule modules;
    for (const auto& [key, parts] : inputs) {
        EXPECT_EQ(parts.size(), 1u);
        addModules(decoder, key, parts.front(), modules);
    }
    return modules;
}

/// The whole model on this rank, without a word to another one.
StatisticsByModule calibrateAlone(const CalibrationJob& job, bool streaming) {
    const c10::InferenceMode inference;
    Stage whole;
    whole.endLayer = job.base.modelConfig().layers;
    whole.streamsLayers = streaming;
    const MicroBatches steps(job.blocks.blocks, job.config.microBatch);
    const DecoderDescription& decoder = *job.base.modelConfig().decoder;
    StatisticsObserver observer(job.base.name(), decoder, testWorld().rank(), steps);
    MpiTransport nobody(testWorld(), whole);
    runStage(testWorld(), nobody, job, whole, steps, {}, observer);
    return byModule(observer.takeSums(), decoder);
}

struct GoldenStatistics {
    const char *name, *model, *file;
    Dtype dtype;
    Statistic statistic;
    double atol, rtol;  // of the golden manifest
};

void PrintTo(const GoldenStatistics& golden, std::ostream* out) {
    *out << golden.name;
}

class CalibrateAgainstTransformers : public testing::TestWithParam<GoldenStatistics> {};

TEST_P(CalibrateAgainstTransformers, GivesTheStatistics) {
    const GoldenStatistics& golden = GetParam();
    const Checkpoint base = Checkpoint::open(goldenPath(golden.model).string());
    CalibrationConfig config;
    config.dtype = golden.dtype;
    const TokenBlocks blocks = goldenBlocks();
    const Plan plan = planOfThreeLayers(testWorld().size(), false);

    const CalibrationResult result =
        calibrate(testWorld(), {.base = base, .config = config, .plan = plan, .blocks = blocks, .device = testDevice()});

    if (!testWorld().isRoot()) {
        EXPECT_TRUE(result.modules.empty());
        return;
    }
    const auto expected = readGolden<float>(golden.file, Dtype::F32);
    ASSERT_EQ(result.modules.size(), expected.size());
    for (const auto& [module, values] : expected) {
        ASSERT_TRUE(result.modules.contains(module)) << module;
        EXPECT_EQ(result.modules.at(module).tokens, 8 * 64) << module;
        const std::vector<float>& got = result.modules.at(module).values(golden.statistic);
        ASSERT_EQ(got.size(), values.size()) << module;
        for (std::size_t c = 0; c < values.size(); ++c)
            ASSERT_NEAR(got[c], values[c], golden.atol + golden.rtol * values[c]) << module << " channel " << c;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, CalibrateAgainstTransformers,
    testing::Values(GoldenStatistics{"MeanAbs", "family_f32/base", "calibration/statistics_f32.safetensors", Dtype::F32,
                                     Statistic::MeanAbs, 1e-6, 1e-4},
                    GoldenStatistics{"Rms", "family_f32/base", "calibration/statistics_f32_rms.safetensors", Dtype::F32,
                                     Statistic::Rms, 2e-6, 1e-4},
                    GoldenStatistics{"MaxAbs", "family_f32/base", "calibration/statistics_f32_max_abs.safetensors",
                                     Dtype::F32, Statistic::MaxAbs, 2e-6, 1e-4},
                    GoldenStatistics{"Bf16", "family_bf16/base", "calibration/statistics_bf16_compute.safetensors",
                                     Dtype::BF16, Statistic::MeanAbs, 0.01, 0.03}),
    [](const auto& info) { return info.param.name; });

struct Way {
    const char* name;
    Dtype dtype;
    std::int64_t microBatch;
    bool streaming;
    std::uint64_t memoryLimit;
    int threads;
};

void PrintTo(const Way& way, std::ostream* out) {
    *out << way.name;
}

class CalibrateOverRanks : public testing::TestWithParam<Way> {};

TEST_P(CalibrateOverRanks, GivesTheBitsOfOneRankWithAllLayersInMemory) {
    const Way& way = GetParam();
    const bool bf16 = way.dtype == Dtype::BF16;
    const Checkpoint base = Checkpoint::open(goldenPath(bf16 ? "family_bf16/base" : "family_f32/base").string());
    CalibrationConfig config;
    config.dtype = way.dtype;
    config.microBatch = way.microBatch;
    const TokenBlocks blocks = goldenBlocks(13);
    const Plan plan = planOfThreeLayers(testWorld().size(), way.streaming);
    const CalibrationJob job{.base = base,
                             .config = config,
                             .plan = plan,
                             .blocks = blocks,
                             .threads = way.threads,
                             .memoryLimit = way.memoryLimit,
                             .device = testDevice()};

    const CalibrationResult result = calibrate(testWorld(), job);

    const StatisticsByModule alone = calibrateAlone(job, false);
    if (!testWorld().isRoot()) return;
    EXPECT_TRUE(result.modules == alone);
    ASSERT_EQ(result.stages.size(), static_cast<std::size_t>(testWorld().size()));
    for (std::size_t r = 0; r < result.stages.size(); ++r) {
        EXPECT_EQ(result.stages[r].rank, static_cast<int>(r));
        EXPECT_EQ(result.stages[r].firstLayer, plan.ranks[r].firstLayer);
        EXPECT_EQ(result.stages[r].lastLayer, plan.ranks[r].endLayer - 1);
        EXPECT_GT(result.stages[r].peakMemoryBytes, 0);
    }
}

// A layer of the golden model takes 172544 bytes in float32, a hidden state of 64 tokens 16384: 420000 bytes hold a few.
INSTANTIATE_TEST_SUITE_P(Ways, CalibrateOverRanks,
                         testing::Values(Way{"Float32", Dtype::F32, 1, false, 0, 1},
                                         Way{"Float32Streaming", Dtype::F32, 1, true, 420000, 1},
                                         Way{"OneHiddenStateAtATime", Dtype::F32, 1, true, 1, 1},
                                         Way{"StreamingWithoutLimit", Dtype::F32, 1, true, 0, 1},
                                         Way{"UnevenMicroBatches", Dtype::F32, 3, false, 0, 1},
                                         Way{"UnevenMicroBatchesStreaming", Dtype::F32, 3, true, 420000, 1},
                                         Way{"OneMicroBatch", Dtype::F32, 20, false, 0, 1},
                                         Way{"Bf16", Dtype::BF16, 1, false, 0, 1},
                                         Way{"Bf16Streaming", Dtype::BF16, 2, true, 200000, 1},
                                         Way{"TwoThreads", Dtype::F32, 2, true, 420000, 2}),
                         [](const auto& info) { return info.param.name; });

/// The golden blocks over and over.
TokenBlocks manyBlocks(std::int64_t count) {
    const TokenBlocks golden = goldenBlocks(13);
    TokenBlocks blocks{.blocks = count, .length = golden.length, .ids = {}};
    for (std::int64_t i = 0; i < count * blocks.length; ++i)
        blocks.ids.push_back(golden.ids[static_cast<std::size_t>(i) % golden.ids.size()]);
    return blocks;
}

struct Corpus {
    std::int64_t blocks, microBatch;
    bool streaming;
};

void PrintTo(const Corpus& corpus, std::ostream* out) {
    *out << corpus.blocks << " blocks, micro-batches of " << corpus.microBatch << (corpus.streaming ? ", streaming" : "");
}

class CalibrateOverReplicas : public testing::TestWithParam<Corpus> {};

TEST_P(CalibrateOverReplicas, GivesTheBitsOfOneRankThatSeesTheWholeCorpus) {
    const Corpus& corpus = GetParam();
    const Checkpoint base = Checkpoint::open(goldenPath("family_f32/base").string());
    CalibrationConfig config;
    config.dtype = Dtype::F32;
    config.microBatch = corpus.microBatch;
    const TokenBlocks blocks = manyBlocks(corpus.blocks);
    for (int replicas = 1; replicas <= testWorld().size(); ++replicas) {
        if (testWorld().size() % replicas != 0) continue;
        const Plan plan = planOfThreeLayers(testWorld().size(), corpus.streaming, replicas);
        const CalibrationJob job{.base = base, .config = config, .plan = plan, .blocks = blocks, .device = testDevice()};

        const CalibrationResult result = calibrate(testWorld(), job);

        const StatisticsByModule alone = calibrateAlone(job, false);
        EXPECT_TRUE(!testWorld().isRoot() || result.modules == alone) << replicas;
    }
}

INSTANTIATE_TEST_SUITE_P(Corpora, CalibrateOverReplicas,
                         testing::Values(Corpus{39, 1, false}, Corpus{39, 1, true}, Corpus{5, 1, false},
                                         Corpus{38, 3, false}, Corpus{70, 2, true}));

struct BadActivation {
    const char* name;
    const char* tensor;
    std::size_t element;
    float value;
    std::int64_t microBatch;
    const char* module;
    const char* block;
};

void PrintTo(const BadActivation& bad, std::ostream* out) {
    *out << bad.name;
}

class BadActivationTest : public testing::TestWithParam<BadActivation> {};

TEST_P(BadActivationTest, IsReportedWithModuleBlockAndRank) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    model.tensors[GetParam().tensor].set(GetParam().element, GetParam().value);
    model.write(folder / "bad");
    const Checkpoint base = Checkpoint::open((folder / "bad").string());
    CalibrationConfig config;
    config.dtype = Dtype::F32;
    config.microBatch = GetParam().microBatch;
    TokenBlocks blocks;
    blocks.blocks = 4;
    blocks.length = 2;
    blocks.ids = {1, 2, 3, 4, 5, 300, 7, 8};  // token 300 is in block 2 alone
    const Plan plan;

    try {
        calibrateAlone({.base = base, .config = config, .plan = plan, .blocks = blocks, .device = testDevice()}, false);
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr(fmt::format("entering {} ", GetParam().module)));
        const bool isExact = !testDevice().isGpu() || config.microBatch == 1;
        EXPECT_THAT(error.what(), HasSubstr(isExact ? fmt::format("block {} ", GetParam().block) : "blocks 0 to 3 "));
        EXPECT_THAT(error.what(), HasSubstr(fmt::format("(rank {})", testWorld().rank())));
    }
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

INSTANTIATE_TEST_SUITE_P(Weights, BadActivationTest,
                         testing::Values(BadActivation{"NanInOneEmbeddingRow", "model.embed_tokens.weight", 300 * 64 + 5,
                                                       kNan, 1, "model.layers.0.input_layernorm", "2"},
                                         BadActivation{"NanInOneEmbeddingRowOfABatch", "model.embed_tokens.weight",
                                                       300 * 64 + 5, kNan, 4, "model.layers.0.input_layernorm", "2"},
                                         BadActivation{"InfinityInAProjection", "model.layers.1.mlp.down_proj.weight", 3,
                                                       kInfinity, 1, "model.layers.2.input_layernorm", "0"},
                                         BadActivation{"NanInTheFinalNorm", "model.norm.weight", 7, kNan, 1, "lm_head",
                                                       "0"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace aimerge
