#include "aimerge/vocabulary/row_map.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace aimerge {
namespace {

void append(RowMap& map, std::vector<RowSource> sources) {
    map.append(sources);
}

TEST(RowMap, PrefixIsIdentity) {
    const RowMap map = RowMap::prefix(2, 5);

    EXPECT_TRUE(map.isIdentity());
    EXPECT_EQ(map.rows(), 5);
    ASSERT_EQ(map.sources(3).size(), 1u);
    EXPECT_EQ(map.sources(3)[0], (RowSource{2, 3}));
}

TEST(RowMap, IsNoIdentityWithAnotherInputsRowAnotherRowOrPadding) {
    RowMap otherInput(0), otherRow(0), padded = RowMap::prefix(0, 3);
    append(otherInput, {{1, 0}});
    append(otherRow, {{0, 1}});
    padded.pad(1);

    EXPECT_FALSE(otherInput.isIdentity());
    EXPECT_FALSE(otherRow.isIdentity());
    EXPECT_FALSE(padded.isIdentity());
    EXPECT_EQ(padded.rows(), 4);
    EXPECT_EQ(padded.alignedRows(), 3);
}

TEST(RowMap, FindsRunsOfConsecutiveRowsOfOneInput) {
    RowMap map(0);
    append(map, {{0, 4}});
    append(map, {{0, 5}});
    append(map, {{1, 6}});
    append(map, {});
    append(map, {{0, 7}, {1, 7}});

    EXPECT_EQ(map.copyRun(0), 2);
    EXPECT_EQ(map.copyRun(1), 1);
    EXPECT_EQ(map.copyRun(2), 1);
    EXPECT_EQ(map.copyRun(3), 0);
    EXPECT_EQ(map.copyRun(4), 0);
}

TEST(RowMean, IsZeroForNoneTheRowForOneAndTheMeanForMore) {
    const std::array<float, 2> a = {1, -2}, b = {2, 5};
    std::array<float, 2> out{9, 9};
    RowMean mean(2);

    mean.store(out);
    EXPECT_EQ(out, (std::array<float, 2>{0, 0}));
    mean.add(a);
    mean.store(out);
    EXPECT_EQ(out, a);
    mean.add(b);
    mean.store(out);
    EXPECT_EQ(out, (std::array<float, 2>{1.5, 1.5}));
}

TEST(RowMean, SumsInFloat64) {
    // 2^25 + 1 + 1 in float32 loses both ones.
    const std::array<float, 1> large = {0x1p25f}, one = {1};
    std::array<float, 1> out{};
    RowMean mean(1);
    mean.add(large);
    mean.add(one);
    mean.add(one);
    mean.add(one);
    mean.add(one);

    mean.store(out);

    EXPECT_EQ(out[0], static_cast<float>((0x1p25 + 4) / 5));
}

}  // namespace
}  // namespace aimerge
