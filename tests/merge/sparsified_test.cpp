// Breadcrumbs, DARE and DELLA: by hand, and what their random draws promise.

#include "aimerge/merge/breadcrumbs.h"
#include "aimerge/merge/dare.h"
#include "aimerge/merge/della.h"
#include "aimerge/merge/task_arithmetic.h"
#include "aimerge/merge/ties.h"
#include "merge/memory_parameter.h"
#include "merge/random_words.h"
#include "merge/rank_sampling.h"

#include <gmock/gmock.h>

#include <numeric>

namespace aimerge {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

ResolvedParameters withDensity(const Method& method, std::vector<double> weights, double density) {
    ResolvedParameters values = parameters(method, weights);
    setPerInput(method, values, "density", std::vector<double>(weights.size(), density));
    return values;
}

Floats ascending(std::size_t count) {
    Floats values(count);
    std::iota(values.begin(), values.end(), 1.0f);
    return values;
}

std::size_t nonZeros(const Floats& values) {
    return static_cast<std::size_t>(std::ranges::count_if(values, [](float value) { return value != 0; }));
}

// ---- breadcrumbs

TEST(Breadcrumbs, DropsTheLargestAndTheSmallest) {
    ResolvedParameters values = withDensity(breadcrumbsMethod(), {1}, 0.5);
    setPerInput(breadcrumbsMethod(), values, "gamma", {0.2});

    // Of ten, the two largest go and five below them stay.
    EXPECT_THAT(combined(breadcrumbsMethod(), values, Floats(10), {ascending(10)}),
                ElementsAre(0, 0, 0, 4, 5, 6, 7, 8, 0, 0));
}

TEST(Breadcrumbs, LetsTheDensityWinOverGamma) {
    ResolvedParameters values = withDensity(breadcrumbsMethod(), {1}, 0.9);
    setPerInput(breadcrumbsMethod(), values, "gamma", {0.3});

    EXPECT_THAT(combined(breadcrumbsMethod(), values, Floats(10), {ascending(10)}),
                ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 0));
}

TEST(Breadcrumbs, KeepsEverythingAtDensityOneAndMayKeepNothing) {
    EXPECT_EQ(combined(breadcrumbsMethod(), parameters(breadcrumbsMethod(), {1}), Floats(10), {ascending(10)}),
              ascending(10));
    EXPECT_THAT(combined(breadcrumbsMethod(), withDensity(breadcrumbsMethod(), {1}, 0.05), Floats(10), {ascending(10)}),
                Each(0.0f));
}

TEST(Breadcrumbs, CountsTheLowerOfEqualElementsAsLarger) {
    ResolvedParameters values = withDensity(breadcrumbsMethod(), {1}, 0.5);
    setPerInput(breadcrumbsMethod(), values, "gamma", {0.25});

    EXPECT_THAT(combined(breadcrumbsMethod(), values, Floats(4), {{2, -2, 2, -2}}), ElementsAre(0, -2, 2, 0));
}

TEST(Breadcrumbs, RescalesWhenAsked) {
    ResolvedParameters values = withDensity(breadcrumbsMethod(), {1}, 0.5);
    setPerInput(breadcrumbsMethod(), values, "gamma", {0.25});
    setShared(breadcrumbsMethod(), values, "rescale", 1);

    // sum |d| = 10; kept 3 and 2: factor 2.
    EXPECT_THAT(combined(breadcrumbsMethod(), values, Floats(4), {{4, 3, -2, 1}}), ElementsAre(0, 6, -4, 0));
}

TEST(BreadcrumbsTies, ElectsAmongWhatIsLeft) {
    ResolvedParameters values = withDensity(breadcrumbsTiesMethod(), {1, 1}, 0.5);
    setPerInput(breadcrumbsTiesMethod(), values, "gamma", {0.25, 0.25});

    // First keeps 3, -2 at 1, 2; second 3, 2 at 0, 2. Element 2: -2 + 2 = 0 elects +.
    EXPECT_THAT(combined(breadcrumbsTiesMethod(), values, Floats(4), {{4, 3, -2, 1}, {3, 4, 2, 1}}),
                ElementsAre(3, 3, 2, 0));
}

// ---- random numbers

TEST(RandomWords, AreTheElementsOwnWhereverTheStretchBegins) {
    const RandomStream stream = elementStream(42, "model.norm.weight", 1);
    RandomWords words;
    for (const auto& [first, count] : {std::pair{0, 200}, std::pair{37, 100}, std::pair{64, 1}, std::pair{1000, 1024}}) {
        const std::uint32_t* filled = words.fill(stream, first, static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i)
            ASSERT_EQ(filled[i], elementWord(stream, static_cast<std::uint64_t>(first + i))) << first << " + " << i;
    }
}

TEST(RandomWords, UseEveryWordOfABlockOnce) {
    const RandomStream stream{.seed = 1, .stream = 2};
    std::set<std::uint32_t> seen;
    for (std::uint64_t e = 0; e < 4096; ++e) seen.insert(elementWord(stream, e));

    EXPECT_GT(seen.size(), 4090u);  // of 4096 draws from 2^32, two are equal with probability 0.2 %
}

TEST(RandomWords, DifferBySeedParameterAndExpert) {
    const std::set<std::uint64_t> streams{elementStream(1, "a", 0).stream, elementStream(1, "a", 1).stream,
                                          elementStream(1, "b", 0).stream};
    EXPECT_EQ(streams.size(), 3u);
    EXPECT_NE(elementWord(elementStream(1, "a", 0), 0), elementWord(elementStream(2, "a", 0), 0));
}

// ---- DARE

TEST(Dare, KeepsAboutTheDensityAndRestoresTheL1Norm) {
    constexpr std::size_t kElements = 100'000;
    const Floats change(kElements, 1.0f);

    const Floats merged =
        combined(dareLinearMethod(), withDensity(dareLinearMethod(), {1}, 0.3), Floats(kElements), {change});

    const double kept = static_cast<double>(nonZeros(merged)) / kElements;
    EXPECT_NEAR(kept, 0.3, 4 * std::sqrt(0.3 * 0.7 / kElements));
    EXPECT_NEAR(std::accumulate(merged.begin(), merged.end(), 0.0), kElements, 1e-2);
}

TEST(Dare, InverseDensityScalesByTheDensityAndNoRescaleLeavesValuesAlone) {
    ResolvedParameters values = withDensity(dareLinearMethod(), {1}, 0.25);
    setShared(dareLinearMethod(), values, "rescale_mode", 1);
    const Floats scaled = combined(dareLinearMethod(), values, Floats(1000), {Floats(1000, 1.0f)});
    setShared(dareLinearMethod(), values, "rescale", 0);
    const Floats plain = combined(dareLinearMethod(), values, Floats(1000), {Floats(1000, 1.0f)});

    EXPECT_THAT(scaled, Each(testing::AnyOf(0.0f, 4.0f)));
    EXPECT_THAT(plain, Each(testing::AnyOf(0.0f, 1.0f)));
    for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(scaled[i], 4 * plain[i]);
}

TEST(Dare, OfDensityOneIsTheMethodWithoutDropping) {
    const Floats base = normalValues(500, 1, 1), a = normalValues(500, 2, 1), b = normalValues(500, 3, 1);

    EXPECT_EQ(bitsOf(combined(dareLinearMethod(), parameters(dareLinearMethod(), {1, 0.5}), base, {a, b})),
              bitsOf(combined(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {1, 0.5}), base, {a, b})));
    ResolvedParameters ties = parameters(tiesMethod(), {1, 0.5});
    setShared(tiesMethod(), ties, "normalize", 0);
    EXPECT_EQ(bitsOf(combined(dareTiesMethod(), parameters(dareTiesMethod(), {1, 0.5}), base, {a, b})),
              bitsOf(combined(tiesMethod(), ties, base, {a, b})));
}

TEST(Dare, DrawsForEachExpertAndSeedAnew) {
    ResolvedParameters values = withDensity(dareLinearMethod(), {1, -1}, 0.5);
    setShared(dareLinearMethod(), values, "rescale", 0);
    const Floats ones(1000, 1.0f);
    const auto run = [&] { return combined(dareLinearMethod(), values, Floats(1000), {ones, ones}); };

    const Floats first = run();
    values.seed = 43;
    const Floats other = run();

    EXPECT_GT(nonZeros(first), 400u);  // half of the elements are kept in one expert and dropped in the other
    EXPECT_NE(first, other);
}

// ---- DELLA

TEST(RankSampler, KeepsByRankWithTheLowerIndexFirst) {
    // p = 0.5 -+ 0.25 over 4 elements: 0.25, 0.4167, 0.5833, 0.75 for ranks 0 ... 3.
    const RankBounds bounds(0.5, 0.25, 4);
    const std::vector<std::uint32_t> keys{7, 3, 7, 1};  // ranks 2, 1, 3, 0
    std::vector<std::uint32_t> kept(4), ranks(4);
    RankSampler sampler;
    const auto keptWith = [&](double draw) {
        const auto word = static_cast<std::uint32_t>(draw * 0x1p32);
        const std::vector<std::uint32_t> words(4, word);
        sampler.sample(keys, words.data(), bounds, kept);
        return kept;
    };

    sampler.ranks(keys, ranks);

    EXPECT_THAT(ranks, ElementsAre(2, 1, 3, 0));
    EXPECT_THAT(keptWith(0.2), ElementsAre(1, 1, 1, 1));
    EXPECT_THAT(keptWith(0.3), ElementsAre(1, 1, 1, 0));
    EXPECT_THAT(keptWith(0.5), ElementsAre(1, 0, 1, 0));
    EXPECT_THAT(keptWith(0.6), ElementsAre(0, 0, 1, 0));
    EXPECT_THAT(keptWith(0.8), ElementsAre(0, 0, 0, 0));
}

TEST(RankSampler, AgreesWithSortingForRowsOfAnyKind) {
    const RandomStream random{.seed = 9, .stream = 1};
    RankSampler sampler;
    for (const std::size_t length : {1u, 2u, 7u, 64u, 1000u, 5000u}) {
        for (const std::uint32_t distinct : {1u, 3u, 100u, 0x7F000000u}) {
            std::vector<std::uint32_t> keys(length), words(length), kept(length), ranks(length);
            for (std::size_t i = 0; i < length; ++i) {
                keys[i] = random.word(2 * i) % distinct;
                words[i] = random.word(2 * i + 1);
            }
            const RankBounds bounds(0.6, 0.3, length);

            sampler.sample(keys, words.data(), bounds, kept);

            sampler.ranks(keys, ranks);
            for (std::size_t i = 0; i < length; ++i)
                ASSERT_EQ(kept[i], words[i] >> 8 < bounds.bound(ranks[i])) << length << ' ' << distinct << ' ' << i;
        }
    }
}

TEST(Della, KeepsLargerChangesMoreOften) {
    constexpr std::size_t kRows = 2000, kColumns = 5;
    Floats change(kRows * kColumns);
    for (std::size_t i = 0; i < change.size(); ++i) change[i] = static_cast<float>(i % kColumns + 1);
    ResolvedParameters values = withDensity(dellaLinearMethod(), {1}, 0.5);
    setPerInput(dellaLinearMethod(), values, "epsilon", {0.3});

    const Floats merged = combined(dellaLinearMethod(), values, Floats(change.size()), {change}, 2, {kRows, kColumns});

    for (std::size_t column = 0; column < kColumns; ++column) {
        double kept = 0;
        for (std::size_t row = 0; row < kRows; ++row) kept += merged[row * kColumns + column] != 0;
        const double p = 0.2 + 0.15 * static_cast<double>(column);
        EXPECT_NEAR(kept / kRows, p, 4 * std::sqrt(p * (1 - p) / kRows)) << column;
    }
}

TEST(Della, InverseDensityScalesByTheElementsOwnProbability) {
    ResolvedParameters values = withDensity(dellaLinearMethod(), {1}, 0.5);
    setPerInput(dellaLinearMethod(), values, "epsilon", {0.25});
    setShared(dellaLinearMethod(), values, "rescale_mode", 1);

    const Floats merged = combined(dellaLinearMethod(), values, Floats(300), {[] {
                                       Floats change(300);
                                       for (std::size_t i = 0; i < 300; ++i) change[i] = static_cast<float>(i % 3 + 1);
                                       return change;
                                   }()},
                                   1, {100, 3});

    EXPECT_GT(nonZeros(merged), 100u);
    for (std::size_t i = 0; i < merged.size(); ++i)  // 1 / 0.25, 2 / 0.5, 3 / 0.75
        EXPECT_FLOAT_EQ(merged[i], merged[i] == 0 ? 0.0f : 4.0f);
}

TEST(Della, RefusesProbabilitiesOutsideZeroToOne) {
    ResolvedParameters values = withDensity(dellaMethod(), {1, 1}, 0.9);
    const auto tooHigh = dellaMethod().check(values);
    setPerInput(dellaMethod(), values, "density", {0.5, 0.1});
    const auto tooLow = dellaMethod().check(values);
    setPerInput(dellaMethod(), values, "density", {1, 0.5});

    ASSERT_TRUE(tooHigh);
    EXPECT_THAT(tooHigh->text, HasSubstr("1.05"));
    ASSERT_TRUE(tooLow);
    EXPECT_EQ(tooLow->input, 1u);
    EXPECT_FALSE(dellaMethod().check(values));
}

TEST(Della, SaysWhatItHolds) {
    const Shape shape{10, 100};  // a row's bits take two words of 8 bytes
    const Floats base(1000), expert = normalValues(1000, 1, 1);
    ResolvedParameters values = withDensity(dellaMethod(), {1, 1}, 0.5);
    setPerInput(dellaMethod(), values, "density", {0.5, 1});
    const auto held = [&] {
        ThreadPool pool(1);
        MemoryReader reader(base, {expert, expert}, pool, 1000, shape);
        return dellaMethod().prepare(reader, values)->heldBytes();
    };

    EXPECT_EQ(held(), 10u * 2 * 8);
    EXPECT_EQ(dellaMethod().workingBytes("weight", shape, values), held());
    setShared(dellaMethod(), values, "rescale_mode", 1);
    EXPECT_EQ(held(), 1000u * 4);
    EXPECT_EQ(dellaMethod().workingBytes("weight", shape, values), held());
}

// ---- all random methods

class RandomMethod : public testing::TestWithParam<const Method*> {};
INSTANTIATE_TEST_SUITE_P(, RandomMethod,
                         testing::Values(&dareLinearMethod(), &dareTiesMethod(), &dellaMethod(), &dellaLinearMethod()),
                         [](const auto& test) { return test.param->info().name; });

TEST_P(RandomMethod, HasTheSameBitsForAnyChunks) {
    const Method& method = *GetParam();
    const Shape shape{61, 131};
    const auto elements = static_cast<std::size_t>(elementCount(shape));
    const Floats base = normalValues(elements, 1, 1), a = normalValues(elements, 2, 1), b = normalValues(elements, 3, 1);
    const ResolvedParameters values = withDensity(method, {1, 0.5}, 0.4);
    const Floats whole = combined(method, values, base, {a, b}, 1, shape);
    ThreadPool pool(3);
    MemoryReader reader(base, {a, b}, pool, 77, shape);

    const auto prepared = method.prepare(reader, values);
    Floats parts(elements);
    for (std::size_t first = 0; first < elements; first += 97) {
        const std::size_t count = std::min<std::size_t>(97, elements - first);
        const std::vector<const float*> inputs{a.data() + first, b.data() + first};
        prepared->combine(static_cast<std::int64_t>(first), base.data() + first, inputs, {parts.data() + first, count});
    }

    EXPECT_EQ(bitsOf(parts), bitsOf(whole));
}

}  // namespace
}  // namespace aimerge
