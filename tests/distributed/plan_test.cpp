#include "aimerge/distributed/plan.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "distributed/planned_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

namespace aimerge {
namespace {

using testing::HasSubstr;

TEST(Plan, CountsBytesMemoryAndFlopsByHand) {
    const LlamaShape shape{8, 2, 2, 1, 16, 10};  // head_dim 4, keys and values 4 wide
    const Model model(shape);
    PlanSettings settings = calibratedSettings(2, 3, 5);
    settings.mergeParameterBytes = 3'000'000;
    settings.omegas = 2;

    const Plan plan = makePlan(*model.base, model.output, settings);

    // A layer: q, o 8x8, k, v 4x8, gate, up, down 16x8, two norms of 8.
    const std::uint64_t matrices = 2 * 64 + 2 * 32 + 3 * 128, layer = matrices + 16, embedding = 80, norm = 8;
    ASSERT_EQ(plan.ranks.size(), 2u);
    const RankPlan &first = plan.ranks[0], &last = plan.ranks[1];
    EXPECT_EQ(first.tensors.size(), 10u);
    EXPECT_EQ(first.tensors.front(), "model.embed_tokens.weight");
    EXPECT_EQ(last.tensors.back(), "lm_head.weight");
    EXPECT_EQ(first.bytesToRead, (embedding + layer) * 4 * 2);         // four inputs of two bytes
    EXPECT_EQ(first.bytesToWrite, (embedding + layer) * 2 * 2);        // two omegas of two bytes
    EXPECT_EQ(last.bytesToWrite, (layer + norm + embedding) * 2 * 2);  // the head has the embedding's shape
    EXPECT_EQ(first.calibrationWeightBytes, layer * 2);
    EXPECT_EQ(last.calibrationWeightBytes, (layer + norm) * 2);
    EXPECT_EQ(first.calibrationBytesToRead, layer * 2);
    EXPECT_EQ(first.statisticsBytes, (8 + 8 + 8 + 16) * 20u);  // what enters q, o, gate and down
    // 15 tokens; each attends to 3 on average, over 8 channels, once for scores and once for values.
    EXPECT_DOUBLE_EQ(first.calibrationFlops, 15.0 * (2.0 * matrices + 4.0 * 3 * 8));
    EXPECT_DOUBLE_EQ(last.calibrationFlops, first.calibrationFlops);
    // Three states of 5 x 8, and at work 2 x 8 + 2 x 16 per token; two bytes each.
    EXPECT_EQ(first.hiddenStateBytes, 3 * 5 * 8 * 2 + 5 * (2 * 8 + 2 * 16) * 2u);
    EXPECT_FALSE(first.streamsLayers);
    EXPECT_EQ(first.peakMemoryBytes, settings.mergeBytesPerThread + settings.mergeParameterBytes);
    EXPECT_EQ(plan.totalBytesToWrite(), first.bytesToWrite + last.bytesToWrite);
}

TEST(Plan, WarnsOfIdleRanks) {
    const Model model(smallShape(2));
    PlanSettings settings = calibratedSettings(2);
    settings.merging = false;
    const CollectedLog log;

    makePlan(*model.base, {}, settings);
    EXPECT_EQ(log.text(), "");
    settings.ranks = 5;
    makePlan(*model.base, {}, settings);

    EXPECT_EQ(log.text(), "warning: 5 ranks for 2 layers: idle ranks: 3\n");
}

TEST(Plan, MergesNothingWhenCalibratingAlone) {
    const Model model(smallShape(4));
    PlanSettings settings = calibratedSettings(2);
    settings.merging = false;

    const Plan plan = makePlan(*model.base, {}, settings);

    EXPECT_EQ(plan.totalBytesToRead(), 0u);
    EXPECT_EQ(plan.totalBytesToWrite(), 0u);
    EXPECT_GT(plan.ranks[1].calibrationFlops, 0);
    EXPECT_EQ(plan.ranks[1].peakMemoryBytes, plan.ranks[1].calibrationWeightBytes + plan.ranks[1].hiddenStateBytes);
}

TEST(Plan, StreamsLayersOnlyBelowTheMemoryThatHoldsThem) {
    const Model model(smallShape(12));
    PlanSettings settings = calibratedSettings(2, 64, 32);
    settings.mergeBytesPerThread = 1000;
    const Plan unlimited = makePlan(*model.base, model.output, settings);
    std::uint64_t enough = 0;
    for (const RankPlan& rank : unlimited.ranks) enough = std::max(enough, rank.peakMemoryBytes);

    settings.memoryLimit = enough;
    const Plan resident = makePlan(*model.base, model.output, settings);
    settings.memoryLimit = enough / 2;
    const Plan streaming = makePlan(*model.base, model.output, settings);

    for (const RankPlan& rank : resident.ranks) EXPECT_FALSE(rank.streamsLayers);
    for (const RankPlan& rank : streaming.ranks) {
        EXPECT_TRUE(rank.streamsLayers);
        EXPECT_LE(rank.peakMemoryBytes, settings.memoryLimit);
    }
}

TEST(Plan, StreamsInFewGroupsWhereReadingTakesLongerThanTheWork) {
    const Model model(smallShape(12));
    PlanSettings settings = calibratedSettings(4, 64, 32);
    settings.hardware.flopsPerSecond = 1e9;
    const auto groups = [&](double bytesPerSecond) {
        settings.hardware.bytesPerSecond = bytesPerSecond;
        return makePlan(*model.base, model.output, settings).streamedGroups;
    };
    EXPECT_EQ(groups(1e12), 16);  // four for each stage
    EXPECT_EQ(groups(1), 1);

    // Work takes twice as long as reading.
    const Plan plan = makePlan(*model.base, model.output, settings);
    settings.hardware.bytesPerSecond = 2 * static_cast<double>(plan.ranks[1].calibrationBytesToRead) /
                                       (plan.ranks[1].calibrationFlops / settings.hardware.flopsPerSecond);
    EXPECT_EQ(makePlan(*model.base, model.output, settings).streamedGroups, 2);  // sqrt(6)
    settings.ranks = 1;
    EXPECT_EQ(makePlan(*model.base, model.output, settings).streamedGroups, 1);
}

TEST(Plan, CountsAllHiddenStatesOfASequentialCalibrationAndWhatItMerges) {
    const Model model(smallShape(12));
    PlanSettings settings = calibratedSettings(2, 64, 32);
    settings.mergeBytesPerThread = 1000;
    settings.mergedAtOnceBytes = 70'000'000;
    const std::uint64_t state = 32 * 64 * 2;

    for (const RankPlan& rank : makePlan(*model.base, model.output, settings).ranks) {
        const std::uint64_t layer =
            rank.calibrationWeightBytes / static_cast<std::uint64_t>(rank.endLayer - rank.firstLayer);
        EXPECT_GE(rank.hiddenStateBytes, 65 * state);
        EXPECT_NEAR(static_cast<double>(rank.peakMemoryBytes), static_cast<double>(64 * state + 70'000'000 + layer), 1000);
    }
    settings.memoryLimit = 70'000'000;
    EXPECT_THROW(makePlan(*model.base, model.output, settings), UsageError);
    settings.memoryLimit = 71'000'000;
    EXPECT_NO_THROW(makePlan(*model.base, model.output, settings));
}

TEST(Plan, NamesTheLeastMemoryLimitThatWorks) {
    const Model model(kLlama2With13B);
    for (const std::uint64_t mergeBytesPerThread : {std::uint64_t{1'000}, std::uint64_t{5'000'000'000}}) {
        PlanSettings settings = calibratedSettings(4);
        settings.mergeBytesPerThread = mergeBytesPerThread;
        settings.memoryLimit = 1'000'000;
        std::string message;
        try {
            makePlan(*model.base, model.output, settings);
        } catch (const UsageError& error) {
            message = error.what();
        }
        std::smatch least;
        ASSERT_TRUE(std::regex_search(message, least,
                                      std::regex("--memory-limit 1.00 MB is too small: .*at least --memory-limit (\\d+MB)")))
            << message;

        settings.memoryLimit = parseSize(least[1].str());
        EXPECT_NO_THROW(makePlan(*model.base, model.output, settings));
        settings.memoryLimit -= 2'000'000;
        EXPECT_THROW(makePlan(*model.base, model.output, settings), UsageError);
    }
}

TEST(Plan, OfLlama2With13BIsMadeFromHeadersAlone) {
    const Model model(kLlama2With13B);
    EXPECT_EQ(model.base->files().size(), 3u);

    const Plan plan = makePlan(*model.base, model.output, calibratedSettings(4));

    expectSound(plan, 40, model.output);
    const std::uint64_t parameters = 13'015'864'320;
    EXPECT_EQ(plan.totalBytesToRead(), parameters * 2 * 4);
    EXPECT_EQ(plan.totalBytesToWrite(), parameters * 2);
    for (const RankPlan& rank : plan.ranks) {
        EXPECT_EQ(rank.endLayer - rank.firstLayer, 10);
        EXPECT_NEAR(static_cast<double>(rank.calibrationWeightBytes), 10 * 317'204'480.0 * 2, 1e6);
    }
}

TEST(Plan, OfAModelThatIsNotLlamaSharesTensorsOutByLayerNames) {
    TempFolder folder;
    writeTextFile(folder / "config.json", R"({"architectures": ["OtherForCausalLM"], "model_type": "other"})");
    const std::vector<OutputTensor> output{{"model.layers.0.a.weight", Dtype::BF16, {64, 64}},
                                           {"model.layers.1.a.weight", Dtype::BF16, {64, 64}},
                                           {"model.layers.2.a.weight", Dtype::BF16, {64, 64}}};
    const ShardLayout layout = layOutShards(output, 1'000'000);
    writeTextFile(folder / layout.shards[0].fileName, layout.shards[0].header);
    std::filesystem::resize_file(folder / layout.shards[0].fileName, layout.shards[0].fileBytes);

    const Plan plan = makePlan(Checkpoint::open(folder.path().string()), output, mergeSettings(3));

    expectSound(plan, 3, output);
    for (const RankPlan& rank : plan.ranks) EXPECT_EQ(rank.tensors.size(), 1u);
}

// ---- replicas

/// Every replica has the stages of the first; every output tensor has one owner.
void expectReplicas(const Plan& plan, int replicas, std::int64_t layers, const std::vector<OutputTensor>& output) {
    ASSERT_EQ(plan.replicas, replicas);
    const std::size_t stages = plan.ranks.size() / static_cast<std::size_t>(replicas);
    std::multiset<std::string> owned;
    for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
        const RankPlan &rank = plan.ranks[r], &ofFirst = plan.ranks[r % stages];
        EXPECT_EQ(rank.replica, static_cast<int>(r / stages));
        EXPECT_EQ(rank.firstLayer, ofFirst.firstLayer);
        EXPECT_EQ(rank.endLayer, ofFirst.endLayer);
        owned.insert(rank.tensors.begin(), rank.tensors.end());
    }
    EXPECT_EQ(plan.ranks[0].firstLayer, 0);
    EXPECT_EQ(plan.ranks[stages - 1].endLayer, layers);
    std::multiset<std::string> wanted;
    for (const OutputTensor& tensor : output) wanted.insert(tensor.name);
    EXPECT_EQ(owned, wanted);
}

TEST(PlanReplicas, AreOneUnlessAMemoryLimitSaysWhatARankCanHold) {
    const Model model(kLlama2With13B);
    PlanSettings settings = calibratedSettings(4);
    expectReplicas(makePlan(*model.base, model.output, settings), 1, 40, model.output);

    settings.memoryLimit = 68'000'000'000;  // the 26 GB of all layers
    const Plan whole = makePlan(*model.base, model.output, settings);
    expectReplicas(whole, 4, 40, model.output);
    EXPECT_EQ(whole.ranks[3].endLayer - whole.ranks[3].firstLayer, 40);

    settings.memoryLimit = 20'000'000'000;  // half of them
    expectReplicas(makePlan(*model.base, model.output, settings), 2, 40, model.output);

    settings.memoryLimit = 10'000'000'000;  // a quarter
    const Plan quarters = makePlan(*model.base, model.output, settings);
    expectReplicas(quarters, 1, 40, model.output);
    for (const RankPlan& rank : quarters.ranks) EXPECT_FALSE(rank.streamsLayers);
}

TEST(PlanReplicas, AreNotWorthReadingTheModelAgainOnAGpu) {
    const Model model(kLlama2With13B);
    PlanSettings settings = calibratedSettings(4, 32, 2048);
    settings.memoryLimit = 68'000'000'000;
    EXPECT_EQ(makePlan(*model.base, model.output, settings).replicas, 4);  // on a thread of a processor

    settings.hardware = gpuHardware();
    EXPECT_EQ(makePlan(*model.base, model.output, settings).replicas, 1);
}

TEST(PlanReplicas, AreNotWorthReadingTheModelAgainForAFewTokens) {
    const Model model(kLlama2With13B);
    PlanSettings settings = calibratedSettings(4, 64, 4);
    settings.memoryLimit = 68'000'000'000;

    EXPECT_EQ(makePlan(*model.base, model.output, settings).replicas, 1);
}

TEST(PlanReplicas, ShareTheWorkAndTheMergeOut) {
    const Model model(smallShape(6));
    PlanSettings settings = calibratedSettings(6);
    const double flops = makePlan(*model.base, model.output, calibratedSettings(1)).ranks[0].calibrationFlops;
    settings.replicas = 3;

    const Plan plan = makePlan(*model.base, model.output, settings);

    expectReplicas(plan, 3, 6, model.output);
    double sum = 0;
    for (const RankPlan& rank : plan.ranks) {
        sum += rank.calibrationFlops;
        EXPECT_FALSE(rank.tensors.empty());
    }
    EXPECT_NEAR(sum / flops, 1, 1e-9);
}

TEST(PlanReplicas, AreAsTheSettingsSay) {
    const Model model(smallShape(6));
    const auto replicasWith = [&](int stages, int replicas) {
        PlanSettings settings = calibratedSettings(6);
        settings.stages = stages;
        settings.replicas = replicas;
        return makePlan(*model.base, model.output, settings).replicas;
    };
    EXPECT_EQ(replicasWith(2, 3), 3);
    EXPECT_EQ(replicasWith(2, 0), 3);
    EXPECT_EQ(replicasWith(0, 2), 2);
    EXPECT_EQ(replicasWith(6, 0), 1);
}

TEST(PlanReplicas, ThatDoNotFitTheJobAreRefused) {
    const Model model(smallShape(6));
    const auto problemWith = [&](int stages, int replicas, std::int64_t blocks) -> std::string {
        PlanSettings settings = calibratedSettings(6, blocks);
        settings.stages = stages;
        settings.replicas = replicas;
        try {
            makePlan(*model.base, model.output, settings);
            return "no exception";
        } catch (const UsageError& error) {
            return error.what();
        }
    };
    EXPECT_THAT(problemWith(2, 2, 256), HasSubstr("stages 2 x replicas 2 = 4 ranks; the job has 6"));
    EXPECT_THAT(problemWith(4, 0, 256), HasSubstr("stages 4 x replicas 1 = 4 ranks; the job has 6"));
    EXPECT_THAT(problemWith(0, 4, 256), HasSubstr("stages 1 x replicas 4 = 4 ranks; the job has 6"));
    EXPECT_THAT(problemWith(0, 6, 5), HasSubstr("6 replicas, but the calibration has 5 micro-batches"));
}

TEST(Plan, SurvivesJson) {
    const Model model(smallShape(5));
    PlanSettings settings = calibratedSettings(3, 7, 33);
    settings.memoryLimit = 50'000'000;
    settings.replicas = 3;
    const Plan plan = makePlan(*model.base, model.output, settings);

    const Plan copy = Plan::fromJson(plan.toJson());

    EXPECT_EQ(copy.toJson(), plan.toJson());
    EXPECT_EQ(copy.replicas, 3);
    ASSERT_EQ(copy.ranks.size(), 3u);
    EXPECT_EQ(copy.ranks[2].replica, 2);
    EXPECT_EQ(copy.ranks[1].tensors, plan.ranks[1].tensors);
    EXPECT_EQ(copy.ranks[1].calibrationFlops, plan.ranks[1].calibrationFlops);
    EXPECT_EQ(copy.ranks[2].endLayer, 5);
    EXPECT_TRUE(copy.ranks[2].head);
}

TEST(PlanTable, ShowsRanksTotalsDiskAndMemory) {
    Plan plan;
    RankPlan first;
    first.endLayer = 10;
    first.embedding = true;
    first.tensors = {"a", "b"};
    first.bytesToRead = 26'000'000'000;
    first.bytesToWrite = 6'500'000'000;
    first.peakMemoryBytes = 6'400'000'000;
    first.calibrationFlops = 3.5e15;
    first.streamsLayers = true;
    RankPlan second;
    second.firstLayer = 10, second.endLayer = 11;
    second.head = true;
    second.tensors = {"c"};
    second.bytesToRead = 4'000'000;
    second.bytesToWrite = 1'000'000;
    second.peakMemoryBytes = 50'000'000;
    second.calibrationFlops = 1.5e15;
    RankPlan third;
    third.firstLayer = third.endLayer = 11;
    plan.ranks = {first, second, third};
    PlanSettings settings;
    settings.ranks = 3;
    settings.memoryLimit = 8'000'000'000;

    EXPECT_EQ(planTable(plan, settings, 100'000'000'000),
              " rank  layers  tensors     read    write   memory   FLOPs\n"
              "    0     0-9        2  26.0 GB  6.50 GB  6.40 GB  3.50 P  embedding, streams its layers\n"
              "    1      10        1  4.00 MB  1.00 MB  50.0 MB  1.50 P  norm and head\n"
              "    2       -        0      0 B      0 B      0 B       0  idle\n"
              "total      11        3  26.0 GB  6.50 GB           5.00 P\n"
              "\n"
              "disk    6.50 GB to write, 100 GB free\n"
              "memory  6.40 GB at most on a rank, limit 8.00 GB\n");
    EXPECT_THAT(planTable(plan, settings, 5'000'000'000),
                HasSubstr("disk    6.50 GB to write, only 5.00 GB free: 1.50 GB missing\n"));
    settings.memoryLimit = 0;
    settings.merging = false;
    EXPECT_THAT(planTable(plan, settings, 0), HasSubstr("\n\nmemory  6.40 GB at most on a rank, no limit given\n"));
}

}  // namespace
}  // namespace aimerge
