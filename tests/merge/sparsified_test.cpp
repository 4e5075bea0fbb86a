// Breadcrumbs, DARE and DELLA: by hand, and what their random draws promise.

#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"
#include "merge/methods/breadcrumbs.h"
#include "merge/methods/dare.h"
#include "merge/methods/della.h"
#include "merge/methods/task_arithmetic.h"
#include "merge/methods/ties.h"
#include "merge/selection/element_draws.h"
#include "merge/selection/kept_bits.h"
#include "merge/selection/kept_draws.h"
#include "merge/selection/kept_magnitude.h"
#include "merge/selection/rank_sampling.h"

#include <gmock/gmock.h>

#include <bit>
#include <numeric>

namespace aimerge {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

/// Runs the body with the vector instructions of each kind that the CPU has.
template <typename Body>
void withEveryInstructionSet(const Body& body) {
    for (const InstructionSet set : {InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512}) {
        limitInstructionSet(set);
        body();
    }
}

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

TEST(ElementDraws, AreTheElementsOwnWhereverTheStretchBegins) {
    const RandomStream stream = elementStream(42, "model.norm.weight", 1);
    UpperDraws draws;
    withEveryInstructionSet([&] {
        for (const auto& [first, count] : {std::pair{0, 300}, std::pair{37, 100}, std::pair{64, 1}, std::pair{1000, 1024}}) {
            const std::uint16_t* filled = draws.fill(stream, first, static_cast<std::size_t>(count));
            for (int i = 0; i < count; ++i)
                ASSERT_EQ(filled[i], elementDraw(stream, static_cast<std::uint64_t>(first + i)) >> 16)
                    << first << " + " << i;
        }
    });
}

TEST(ElementDraws, UseEveryPartOfABlockOnce) {
    const RandomStream stream{.seed = 1, .stream = 2};
    std::set<std::uint32_t> seen;
    for (std::uint64_t e = 0; e < 4096; ++e) seen.insert(elementDraw(stream, e));

    EXPECT_GT(seen.size(), 4090u);  // of 4096 draws from 2^32, two are equal with probability 0.2 %
}

TEST(ElementDraws, DifferBySeedParameterAndExpert) {
    const std::set<std::uint64_t> streams{elementStream(1, "a", 0).stream, elementStream(1, "a", 1).stream,
                                          elementStream(1, "b", 0).stream};
    EXPECT_EQ(streams.size(), 3u);
    EXPECT_NE(elementDraw(elementStream(1, "a", 0), 0), elementDraw(elementStream(2, "a", 0), 0));
}

TEST(KeptDraws, KeepWhatLiesBelowTheBound) {
    const RandomStream stream = elementStream(42, "model.norm.weight", 1);
    withEveryInstructionSet([&] {
        // One plane, two, eight with nothing below them, all 32 bits, and bounds that the top bits rarely decide.
        for (const std::uint32_t bound :
             {0x80000000u, 0x40000000u, 0xC0000000u, 0x5B000000u, keepBound(0.3), 0x7F7F7F7Fu, 1u}) {
            for (const auto& [first, count] : {std::pair{0, 2048}, std::pair{2048, 5000}, std::pair{65536, 3}}) {
                const auto begin = static_cast<std::uint64_t>(first);
                std::vector<std::uint32_t> words(keptBitWords(static_cast<std::size_t>(count)));
                drawKept(stream, begin, static_cast<std::size_t>(count), bound, words.data());

                Floats kept(static_cast<std::size_t>(count));
                expandKeptBits(words.data(), 0, 1.0f, kept);
                for (std::size_t i = 0; i < kept.size(); ++i)
                    ASSERT_EQ(kept[i] != 0, keptDraw(stream, begin + i) < bound) << bound << ' ' << first << " + " << i;
            }
        }
    });
}

TEST(KeptDraws, UseEveryPartOfABlockOnce) {
    const RandomStream stream{.seed = 1, .stream = 2};
    std::set<std::uint32_t> seen;
    for (std::uint64_t e = 0; e < 4096; ++e) seen.insert(keptDraw(stream, e));

    EXPECT_GT(seen.size(), 4090u);  // of 4096 draws from 2^32, two are equal with probability 0.2 %
}

TEST(KeptDraws, KeepTheFractionTheDensityAsksFor) {
    constexpr std::size_t kElements = 1 << 20;
    const RandomStream stream = elementStream(7, "a", 0);
    for (const double density : {0.001, 0.1, 0.3, 0.5, 0.9}) {
        std::vector<std::uint32_t> words(keptBitWords(kElements));
        drawKept(stream, 0, kElements, keepBound(density), words.data());

        double kept = 0;
        for (const std::uint32_t word : words) kept += std::popcount(word);
        EXPECT_NEAR(kept / kElements, density, 4 * std::sqrt(density * (1 - density) / kElements)) << density;
    }
}

TEST(KeptBits, ExpandFromAnyElementOn) {
    const RandomStream random{.seed = 3, .stream = 1};
    for (const std::size_t count : {1u, 15u, 16u, 511u, 512u, 513u, 1500u}) {
        std::vector<std::uint32_t> words(keptBitWords(count));
        const auto isKept = [&](std::size_t e) { return random.word(e) % 2 != 0; };
        for (std::size_t e = 0; e < count; ++e)
            if (isKept(e)) words[keptBitWord(e)] |= keptBit(e);

        for (const std::size_t first : {std::size_t{0}, count / 3, count - 1}) {
            Floats factors(count - first);
            expandKeptBits(words.data(), first, 2.5f, factors);
            for (std::size_t i = 0; i < factors.size(); ++i)
                ASSERT_EQ(factors[i], isKept(first + i) ? 2.5f : 0.0f) << count << ' ' << first << ' ' << i;
        }
    }
}

TEST(KeptBits, AreOneForEachElement) {
    std::set<std::pair<std::size_t, std::uint32_t>> seen;
    for (std::size_t e = 0; e < 3 * kBitGroup; ++e) {
        EXPECT_TRUE(seen.emplace(keptBitWord(e), keptBit(e)).second) << e;
        EXPECT_LT(keptBitWord(e), keptBitWords(e + 1));
        EXPECT_EQ(elementOfBit(keptBitWord(e), static_cast<unsigned>(std::countr_zero(keptBit(e)))), e);
    }
}

TEST(KeptBits, SayWhichMagnitudesAreAddedUp) {
    constexpr std::size_t kElements = 1200;
    const RandomStream random{.seed = 4, .stream = 1};
    std::vector<std::uint32_t> words(keptBitWords(kElements));
    double all = 0, kept = 0;
    for (std::size_t e = 0; e < kElements; ++e) {
        all += static_cast<double>(e);  // whole numbers: exact in any order
        if (random.word(e) % 3 != 0) continue;
        words[keptBitWord(e)] |= keptBit(e);
        kept += static_cast<double>(e);
    }
    MagnitudeSums sums;
    for (const auto& [first, end] : {std::pair{0u, 5u}, {5u, 530u}, {530u, 544u}, {544u, 1200u}}) {
        const std::size_t begin = first;
        addSampledMagnitudes(
            end - first, begin,
            [=](std::size_t i) AIMERGE_INLINE_BODY { return bitsOfFloat(static_cast<float>(begin + i)); }, words.data(),
            sums);
    }

    EXPECT_EQ(sumOf(sums.all), all);
    EXPECT_EQ(sumOf(sums.kept), kept);
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

TEST(RankSampler, GivesEqualMagnitudesTheMeanOfTheirRanks) {
    const std::vector<std::uint32_t> keys{7, 3, 7, 1};  // ranks 2.5, 1, 2.5, 0
    std::vector<DoubleRank> ranks(4);
    RankSampler().ranks(keys, ranks);

    EXPECT_THAT(ranks, ElementsAre(5, 2, 5, 0));
    const RankBounds bounds(0.5, 0.25, 4);
    EXPECT_DOUBLE_EQ(bounds.probability(0), 0.25);
    EXPECT_DOUBLE_EQ(bounds.probability(2), 0.5 - 0.25 / 3);
    EXPECT_DOUBLE_EQ(bounds.probability(6), 0.75);
    EXPECT_EQ(bounds.bound(6), 0xC0000000u);
}

TEST(RankSampler, AgreesWithTheRanksForRowsOfAnyKind) {
    const RandomStream random{.seed = 9, .stream = 1};
    RankSampler sampler;
    UpperDraws draws;
    withEveryInstructionSet([&] {
        for (const std::size_t length : {1u, 2u, 7u, 64u, 1000u, 5000u}) {
            // The last ones are octaves apart, each with a bin of its own.
            for (const auto& [distinct, unit] :
                 {std::pair{1u, 1u}, {3u, 1u}, {100u, 1u}, {0x7F000000u, 1u}, {3u, 1u << 23}, {9u, 1u << 23}}) {
                for (const double epsilon : {0.0, 0.3, 0.4 - 1e-12}) {  // the last: the greatest is kept but for 2^-39
                    const std::uint64_t first = 3 * length;
                    std::vector<std::uint32_t> keys(length);
                    std::vector<DoubleRank> ranks(length);
                    for (std::size_t i = 0; i < length; ++i) keys[i] = random.word(first + i) % distinct * unit;
                    const RankBounds bounds(0.6, epsilon, length);
                    std::vector<std::uint32_t> kept(keptBitWords(length));

                    sampler.sample(keys, bounds, random, first, draws.fill(random, static_cast<std::int64_t>(first), length),
                                   kept.data());

                    sampler.ranks(keys, ranks);
                    for (std::size_t i = 0; i < length; ++i)
                        ASSERT_EQ((kept[keptBitWord(i)] & keptBit(i)) != 0,
                                  elementDraw(random, first + i) < bounds.bound(ranks[i]))
                            << length << ' ' << distinct << ' ' << unit << ' ' << i;
                }
            }
        }
    });
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
    const Shape shape{10, 100};  // a row's bits take a group of 16 words of 4 bytes
    const Floats base(1000), expert = normalValues(1000, 1, 1);
    ResolvedParameters values = withDensity(dellaMethod(), {1, 1}, 0.5);
    setPerInput(dellaMethod(), values, "density", {0.5, 1});
    const auto held = [&] {
        ThreadPool pool(1);
        MemoryReader reader(base, {expert, expert}, pool, 1000, shape);
        return dellaMethod().prepare(reader, values)->heldBytes();
    };

    EXPECT_EQ(held(), 10u * 16 * 4);
    EXPECT_EQ(dellaMethod().workingBytes(Role::Linear, shape, values), held());
    setShared(dellaMethod(), values, "rescale_mode", 1);
    EXPECT_EQ(held(), 1000u * 4);
    EXPECT_EQ(dellaMethod().workingBytes(Role::Linear, shape, values), held());
}

TEST(Dare, SaysWhatItHolds) {
    const Floats base(1000), expert = normalValues(1000, 1, 1);
    ResolvedParameters values = withDensity(dareLinearMethod(), {1, 1}, 0.5);
    setPerInput(dareLinearMethod(), values, "density", {0.5, 1});
    ThreadPool pool(1);
    MemoryReader reader(base, {expert, expert}, pool, 1000, {1000});

    EXPECT_EQ(dareLinearMethod().prepare(reader, values)->heldBytes(), 2u * 16 * 4);  // 1000 bits: two groups
    EXPECT_EQ(dareLinearMethod().workingBytes(Role::Linear, {1000}, values), 2u * 16 * 4);
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
