// Who merges what.

#include "aimerge/core/error.h"
#include "distributed/planned_model.h"

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

std::uint64_t mostToMerge(const Plan& plan) {
    std::uint64_t most = 0;
    for (const RankPlan& rank : plan.ranks) most = std::max(most, rank.bytesToRead + rank.bytesToWrite);
    return most;
}

TEST(Plan, OwnsEveryLayerAndTensorOnceForAnyNumberOfRanks) {
    const CollectedLog warnings;
    for (const std::int64_t layers : {1, 2, 3, 7, 22, 31, 61}) {
        const Model model(smallShape(layers));
        for (int ranks = 1; ranks <= 64; ++ranks) {
            SCOPED_TRACE(testing::Message() << layers << " layers on " << ranks << " ranks");
            const Plan plan = makePlan(*model.base, model.output, calibratedSettings(ranks, 4, 32));

            expectSound(plan, layers, model.output);
            // Every rank has layers as long as there are layers.
            for (std::size_t r = 0; r < plan.ranks.size(); ++r)
                EXPECT_EQ(plan.ranks[r].firstLayer == plan.ranks[r].endLayer, std::cmp_greater_equal(r, layers));
            // Tensors one by one, each to the rank with least, give no rank more than its share and the largest of them.
            const std::uint64_t embedding = 5 * model.output.front().bytes(),  // four read, one written
                share = (plan.totalBytesToRead() + plan.totalBytesToWrite()) / plan.ranks.size();
            EXPECT_LE(static_cast<double>(mostToMerge(plan)), 1.25 * static_cast<double>(share + embedding));
        }
    }
}

TEST(Plan, IsEvenWhenLayersAreAllThatCounts) {
    const Model model({64, 30, 4, 2, 128, 1, true});
    for (int ranks = 1; ranks <= 30; ++ranks) {
        const Plan plan = makePlan(*model.base, model.output, calibratedSettings(ranks));

        for (const RankPlan& rank : plan.ranks) {
            EXPECT_GE(rank.endLayer - rank.firstLayer, 30 / ranks);
            EXPECT_LE(rank.endLayer - rank.firstLayer, (30 + ranks - 1) / ranks);
        }
    }
}

TEST(Plan, GivesTheRankOfALargeEmbeddingFewerLayers) {
    const Model model({64, 20, 4, 2, 128, 4000, true});  // the embedding is as large as seven layers

    const Plan plan = makePlan(*model.base, model.output, mergeSettings(2));

    const RankPlan &first = plan.ranks[0], &last = plan.ranks[1];
    EXPECT_LT(first.endLayer - first.firstLayer, last.endLayer - last.firstLayer);
    EXPECT_NEAR(static_cast<double>(first.bytesToRead) / static_cast<double>(last.bytesToRead), 1, 0.1);
}

TEST(Plan, GivesOtherTensorsToTheRankWithLeast) {
    Model model(smallShape(3));
    model.output.push_back({"vision.small", Dtype::BF16, {10}});
    model.output.push_back({"vision.large", Dtype::BF16, {1000, 1000}});
    model.output.push_back({"vision.z", Dtype::BF16, {10}});

    const Plan plan = makePlan(*model.base, model.output, mergeSettings(3));

    expectSound(plan, 3, model.output);
    const auto ownerOf = [&](const std::string& name) {
        return std::find_if(plan.ranks.begin(), plan.ranks.end(),
                            [&](const RankPlan& rank) {
                                return std::find(rank.tensors.begin(), rank.tensors.end(), name) != rank.tensors.end();
                            }) -
               plan.ranks.begin();
    };
    EXPECT_EQ(ownerOf("vision.large"), 1);  // the middle rank has neither embedding nor norm
    EXPECT_EQ(ownerOf("vision.small"), 2);  // by then the last one has less
    EXPECT_EQ(ownerOf("vision.z"), 2);
}

TEST(Plan, MergesOnMoreRanksThanLayers) {
    const Model model({64, 6, 4, 2, 128, 32, true});  // a layer is much more than the embedding
    const CollectedLog log;
    for (const std::int64_t blocks : {0, 256}) {
        PlanSettings settings = calibratedSettings(12, blocks);

        const Plan plan = makePlan(*model.base, model.output, settings);

        expectSound(plan, 6, model.output);
        for (const RankPlan& rank : plan.ranks) EXPECT_FALSE(rank.tensors.empty());
        const std::uint64_t all = plan.totalBytesToRead() + plan.totalBytesToWrite();
        EXPECT_LE(mostToMerge(plan), all / 12 * 13 / 10);
        // Six ranks calibrate, one layer each.
        for (std::size_t r = 0; r < 12; ++r) EXPECT_EQ(plan.ranks[r].calibrationFlops > 0, blocks > 0 && r < 6);
    }
    EXPECT_EQ(log.text(), "");
}

TEST(Plan, MergesEvenlyWhereOneRankInFourHasALayerMore) {
    const Model model({64, 40, 4, 2, 128, 32, true});
    const auto share = [&](int ranks) {
        const Plan plan = makePlan(*model.base, model.output, mergeSettings(ranks));
        return static_cast<double>(mostToMerge(plan) * static_cast<std::uint64_t>(ranks)) /
               static_cast<double>(plan.totalBytesToRead() + plan.totalBytesToWrite());
    };
    EXPECT_NEAR(share(32), 1, 0.1);  // with whole layers 1.6: two of 40
    EXPECT_NEAR(share(20), 1, 0.1);  // two each
}

TEST(Plan, KeepsTheTensorsOfALayerTogetherWhereThatIsNearlyEven) {
    const Model model({64, 40, 4, 2, 128, 32, true});
    for (const RankPlan& rank : makePlan(*model.base, model.output, calibratedSettings(9)).ranks)
        for (const std::string& tensor : rank.tensors) {
            const Place place = model.base->architecture().placeOf(tensor);
            if (place.part != Part::Layer) continue;
            EXPECT_GE(place.layer, rank.firstLayer);
            EXPECT_LT(place.layer, rank.endLayer);
        }
}

}  // namespace
}  // namespace aimerge
