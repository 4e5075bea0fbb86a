#include "merge/selection/selection.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"
#include "merge/selection/key_bracket.h"

#include <gtest/gtest.h>

#include <functional>

namespace aimerge {
namespace {

std::uint32_t keyAt(const Floats& base, const Floats& input, std::size_t i) {
    return bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
}

/// Cuts by a stable sort of all elements.
class ReferenceCuts {
public:
    ReferenceCuts(const Floats& base, const Floats& input) : order_(base.size()) {
        for (std::size_t i = 0; i < base.size(); ++i) order_[i] = {keyAt(base, input, i), i};
        std::ranges::stable_sort(order_, std::greater<>(), &Element::key);
    }

    MagnitudeCut cut(std::int64_t keep) const {
        const Element& last = order_[static_cast<std::size_t>(keep) - 1];
        const bool equalOnesFollow =
            static_cast<std::size_t>(keep) < order_.size() && order_[static_cast<std::size_t>(keep)].key == last.key;
        return {last.key, static_cast<std::int64_t>(equalOnesFollow ? last.index + 1 : order_.size())};
    }

private:
    struct Element {
        std::uint32_t key;
        std::size_t index;
    };
    std::vector<Element> order_;
};

MagnitudeCut referenceCut(const Floats& base, const Floats& input, std::int64_t keep) {
    return ReferenceCuts(base, input).cut(keep);
}

struct Data {
    const char* name;
    std::function<Floats(std::size_t count)> change;
};

Floats withEvery(std::size_t count, const std::function<float(std::size_t)>& value) {
    Floats values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = value(i);
    return values;
}

const std::vector<Data> kData{
    {"normal", [](std::size_t n) { return normalValues(n, 3, 0.01f); }},
    {"all zero", [](std::size_t n) { return Floats(n); }},
    {"all equal", [](std::size_t n) { return Floats(n, -0.25f); }},
    {"two values", [](std::size_t n) { return withEvery(n, [](std::size_t i) { return i % 3 == 0 ? 0.5f : -0.125f; }); }},
    {"half zero",
     [](std::size_t n) {
         Floats v = normalValues(n, 4, 1);
         for (std::size_t i = 0; i < n; i += 2) v[i] = 0;
         return v;
     }},
    {"bf16", [](std::size_t n) { return roundedToBf16(normalValues(n, 5, 0.01f)); }},
    {"few levels",
     [](std::size_t n) {
         return withEvery(n, [](std::size_t i) { return 0x1p-7f * static_cast<float>(i * 2654435761u % 5); });
     }},
    {"ascending", [](std::size_t n) { return withEvery(n, [](std::size_t i) { return static_cast<float>(i); }); }},
    {"large only at the end",
     [](std::size_t n) {
         return withEvery(n, [n](std::size_t i) { return i + 100 < n ? 1e-6f * static_cast<float>(i % 7) : 1.0f; });
     }},
    {"subnormal and huge",
     [](std::size_t n) {
         return withEvery(n, [](std::size_t i) { return i % 2 ? 1e-42f * static_cast<float>(i % 50) : 1e38f; });
     }},
};

std::vector<std::int64_t> ranksOf(std::size_t count) {
    const auto n = static_cast<std::int64_t>(count);
    std::set<std::int64_t> ranks{1, 2, n / 10, n / 3, n / 2, n * 9 / 10, n - 1, n};
    std::erase_if(ranks, [n](std::int64_t rank) { return rank < 1 || rank > n; });
    return {ranks.begin(), ranks.end()};
}

void expectReference(const Data& data, std::size_t count, const SelectionSettings& settings, int threads,
                     std::int64_t chunk) {
    const Floats base(count), change = data.change(count);
    ThreadPool pool(threads);
    MemoryReader reader(base, {change}, pool, chunk);
    const ReferenceCuts reference(base, change);
    for (const std::int64_t keep : ranksOf(count)) {
        const SelectionRequest request{0, keep};
        const MagnitudeCut found = selectLargest(reader, {&request, 1}, settings).front();
        EXPECT_EQ(found, reference.cut(keep)) << data.name << ", " << count << " elements, " << threads << " threads, keep "
                                              << keep << ": found " << found.magnitude << " up to " << found.equalEnd;
    }
}

class SelectionOnAnySize : public testing::TestWithParam<std::size_t> {};

TEST_P(SelectionOnAnySize, EqualsAStableSort) {
    for (const Data& data : kData) expectReference(data, GetParam(), {}, 1, 1024);
}
INSTANTIATE_TEST_SUITE_P(, SelectionOnAnySize, testing::Values(1, 2, 15, 16, 17, 1023, 1025, 65536, 65537, 200003));

TEST(Selection, EqualsAStableSortForAnyNumberOfThreadsAndChunks) {
    for (const Data& data : kData)
        for (const int threads : {2, 3})
            for (const std::int64_t chunk : {333, 4096}) expectReference(data, 150001, {}, threads, chunk);
}

TEST(Selection, SurvivesASampleThatMisses) {
    SelectionSettings settings;
    settings.mostSampled = 256;  // one run of neighbours: of the ascending data it sees a small stretch
    settings.bracketDeviations = 0;
    for (const Data& data : kData) expectReference(data, 200003, settings, 2, 1024);
}

TEST(Selection, SurvivesBuffersThatOverflow) {
    SelectionSettings settings;
    settings.bracketDeviations = 1e6;  // everything is inside
    settings.collected = 1;            // the least that is taken: two spans
    for (const Data& data : kData) expectReference(data, 400009, settings, 1, 1024);
}

TEST(Selection, SurvivesATinySample) {
    SelectionSettings settings;
    settings.mostSampled = 256;
    for (const Data& data : kData) expectReference(data, 300007, settings, 2, 1024);
}

TEST(Selection, KeepsAShareOfWhatIsNotZero) {
    const std::size_t count = 150001;
    const Floats base(count);
    ThreadPool pool(2);
    for (const Data& data : kData) {
        const Floats change = data.change(count);
        MemoryReader reader(base, {change}, pool, 1024);
        const ReferenceCuts reference(base, change);
        const auto nonzero = static_cast<float>(std::ranges::count_if(change, [](float value) { return value != 0; }));
        for (const float share : {1e-6f, 0.1f, 0.5f, 0.999f, 1.0f}) {
            const SelectionRequest request{.input = 0, .ofNonzero = share};
            const MagnitudeCut found = selectLargest(reader, {&request, 1}).front();
            const auto keep = static_cast<std::int64_t>(nonzero * share);
            EXPECT_EQ(found, keep == 0 ? MagnitudeCut::keepNone() : reference.cut(keep)) << data.name << ", share " << share;
        }
    }
}

TEST(Selection, SurvivesASampleThatMissesWhatIsNotZero) {
    const std::size_t count = 400009;
    const Floats base(count);
    Floats change(count);
    for (std::size_t i = 0; i < 5000; ++i) change[count - 1 - i] = static_cast<float>(1 + i % 1000);
    ThreadPool pool(2);
    MemoryReader reader(base, {change}, pool, 1024);
    SelectionSettings settings;
    settings.mostSampled = 256;
    settings.bracketDeviations = 0;
    settings.collected = 1;
    const SelectionRequest request{.input = 0, .ofNonzero = 0.5f};
    EXPECT_EQ(selectLargest(reader, {&request, 1}, settings).front(), referenceCut(base, change, 2500));
}

TEST(Selection, TreatsSeveralInputsInOnePass) {
    const std::size_t count = 120000;
    const Floats base = normalValues(count, 1, 0.02f), first = normalValues(count, 2, 0.02f), third = roundedToBf16(base);
    ThreadPool pool(2);
    MemoryReader reader(base, {first, base, third}, pool);
    const std::vector<SelectionRequest> requests{{2, 1000}, {0, 77777}};
    const auto cuts = selectLargest(reader, requests);
    EXPECT_EQ(cuts[0], referenceCut(base, third, 1000));
    EXPECT_EQ(cuts[1], referenceCut(base, first, 77777));
}

TEST(TallyKeys, IsTheSameForAllInstructionSets) {
    const std::size_t count = 1000;  // no multiple of any vector
    const Floats base = roundedToBf16(normalValues(count, 1, 1)), input = roundedToBf16(normalValues(count, 2, 1));
    const KeyBracket bracket{keyAt(base, input, 10), keyAt(base, input, 10) + (1u << 23)};
    std::vector<std::vector<std::uint32_t>> collected;
    std::vector<std::array<std::uint32_t, 4>> tallies;
    for (const auto set : {InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512}) {
        limitInstructionSet(set);
        BracketTally tally;
        std::vector<std::uint32_t> keys(count + kCollectSlack);
        keys.resize(tallyKeys(base.data(), input.data(), count, bracket, tally, keys.data()));
        collected.push_back(keys);
        tallies.push_back({tally.above, tally.high, tally.inside, tally.low});
    }
    limitInstructionSet(bestInstructionSet());
    EXPECT_EQ(collected[0].size(), tallies[0][2]);
    EXPECT_GT(tallies[0][2], 100u);
    EXPECT_GT(tallies[0][3], 0u);
    for (const std::size_t other : {1u, 2u}) {
        EXPECT_EQ(collected[other], collected[0]);
        EXPECT_EQ(tallies[other], tallies[0]);
    }
}

TEST(KeyRanking, AgreesWithASort) {
    const std::vector<std::uint32_t> a{5, 9, 7, 7}, b{8, 7, 1000000};
    const std::vector<std::span<const std::uint32_t>> parts{a, b};
    const std::vector<std::uint32_t> descending{1000000, 9, 8, 7, 7, 7, 5};
    for (std::size_t k = 1; k <= descending.size(); ++k)
        EXPECT_EQ(KeyRanking(parts, {5, 1000000}).kthLargest(k), descending[k - 1]) << k;
}

}  // namespace
}  // namespace aimerge
