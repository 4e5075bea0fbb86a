#include "aimerge/core/size_text.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(ParseSize, AcceptsBytesAndDecimalAndBinaryUnits) {
    const std::vector<std::pair<std::string, std::uint64_t>> rows{
        {"0", 0},
        {"1000000", 1'000'000},
        {"1000000B", 1'000'000},
        {"0.001kB", 1},
        {"5GB", 5'000'000'000},
        {"5gb", 5'000'000'000},
        {"5 GB", 5'000'000'000},
        {"512MiB", 512u << 20},
        {"1.5kB", 1500},
        {"0.5GiB", 1u << 29},
        {"2TB", 2'000'000'000'000},
        {"18446744073709551615", ~std::uint64_t{0}},
        {"3tib", std::uint64_t{3} << 40},
    };
    for (const auto& [text, bytes] : rows) EXPECT_EQ(parseSize(text), bytes) << text;
}

TEST(ParseSize, RefusesEverythingElseWithTheAcceptedForms) {
    for (const char* text : {"",
                             " ",
                             "GB",
                             "-1",
                             "+1",
                             "5G",
                             "5 ",
                             "5  GB",
                             " 5GB",
                             "5GB ",
                             "1.5",
                             "1.5B",
                             "1..5GB",
                             "1e9",
                             "0x10",
                             "5XB",
                             "18446744073709551616",
                             "99999999TiB",
                             "99999999999.5TB",
                             "nanGB"})
        EXPECT_THAT([&] { parseSize(text); },
                    testing::ThrowsMessage<UsageError>(testing::HasSubstr(fmt::format("'{}' is not a size", text))))
            << text;
}

// 1B is what mergekit's users write for a billion, and 24B what they write for memory.
TEST(ParseSize, RefusesFewBytesWithWhatIsMeant) {
    const std::vector<std::pair<std::string, std::string>> rows{
        {"1B",
         "'1B' counts single bytes: for 1 billion bytes, which mergekit writes so, give 1GB; write 0.001kB if that is "
         "meant"},
        {"24b", "give 24GB; write 0.024kB if that is meant"},
        {"5 B", "give 5GB"},
        {"999999B", "give 999999GB; write 999.999kB if that is meant"},
        {"500", "'500' has no unit, so it counts single bytes: give 500MB or 500GB; write 0.5kB if that is meant"},
        {"999999", "write 999.999kB if that is meant"},
    };
    for (const auto& row : rows)
        EXPECT_THAT([&] { parseSize(row.first); }, testing::ThrowsMessage<UsageError>(testing::HasSubstr(row.second)))
            << row.first;
}

TEST(ParseSize, NamesTheUnitThatAPrefixLacks) {
    for (const auto& row : std::vector<std::pair<std::string, std::string>>{
             {"1M", "1MB"}, {"5g", "5GB"}, {"100K", "100kB"}, {"1.5B", "1.5GB"}})
        EXPECT_THAT([&] { parseSize(row.first); },
                    testing::ThrowsMessage<UsageError>(testing::HasSubstr(
                        fmt::format("'{}' is not a size (did you mean {}?); write", row.first, row.second))));
}

TEST(FormatBytes, HasThreeSignificantDigitsInDecimalUnits) {
    const std::vector<std::pair<std::uint64_t, std::string>> rows{
        {0, "0 B"},
        {12, "12 B"},
        {999, "999 B"},
        {1000, "1.00 kB"},
        {9'994, "9.99 kB"},
        {9'996, "10.0 kB"},
        {99'960, "100 kB"},
        {999'600, "1.00 MB"},
        {24'200'000'000, "24.2 GB"},
        {269'060'552, "269 MB"},
        {~std::uint64_t{0}, "18.4 EB"},
    };
    for (const auto& [bytes, text] : rows) EXPECT_EQ(formatBytes(bytes), text);
}

TEST(FormatSeconds, UsesTheTwoLargestUnits) {
    const std::vector<std::pair<double, std::string>> rows{
        {0, "0.0s"},     {0.84, "0.8s"}, {9.94, "9.9s"},    {9.96, "10s"},   {12.4, "12s"},
        {59.6, "1m00s"}, {510, "8m30s"}, {3599.6, "1h00m"}, {3720, "1h02m"}, {86400, "24h00m"},
    };
    for (const auto& [seconds, text] : rows) EXPECT_EQ(formatSeconds(seconds), text) << seconds;
}

TEST(FormatCount, HasThreeSignificantDigits) {
    EXPECT_EQ(formatCount(1.25e12), "1.25 T");
    EXPECT_EQ(formatCount(999), "999");
    EXPECT_EQ(formatCount(0.5), "0.50");
    EXPECT_EQ(formatCount(13.0e9), "13.0 G");
    EXPECT_EQ(formatCount(999.7e15), "1.00 E");
}

TEST(NearestName, FindsSlipsOfTheKeyboardOnly) {
    const std::vector<std::string> known{"omega", "statistic", "statistics", "calibration", "scope"};

    EXPECT_EQ(nearestName("omga", known), "omega");
    EXPECT_EQ(nearestName("statistc", known), "statistic");
    EXPECT_EQ(nearestName("callibration", known), "calibration");
    EXPECT_EQ(nearestName("omega", known), "omega");
    EXPECT_EQ(nearestName("density", known), "");
    EXPECT_EQ(nearestName("", known), "");
    EXPECT_EQ(nearestName("omga", {}), "");
}

// Of two as near, the first listed, so that the message is the same on every run. 4 letters allow 2 edits, not 3.
TEST(NearestName, TakesTheFirstOfTiesWithinAThirdPlusOne) {
    EXPECT_EQ(nearestName("cat", {"car", "bat"}), "car");
    EXPECT_EQ(nearestName("abcd", {"abxy"}), "abxy");
    EXPECT_EQ(nearestName("abcd", {"axyz"}), "");
}

// A wrong positive turns a key that mergekit ignores into an error, a wrong negative a typing error into a warning.
TEST(MisspeltName, IsStricterThanTheNearest) {
    const std::vector<std::string> known{"weight", "density", "dtype", "model", "t", "select_topk"};

    for (const auto& [word, meant] : std::vector<std::pair<std::string, std::string>>{{"densty", "density"},
                                                                                      {"wieght", "weight"},
                                                                                      {"weigths", "weight"},
                                                                                      {"dype", "dtype"},
                                                                                      {"dtpye", "dtype"},
                                                                                      {"Density", "density"},
                                                                                      {"models", "model"},
                                                                                      {"select-topk", "select_topk"},
                                                                                      {"T", "t"}})
        EXPECT_EQ(misspeltName(word, known), meant) << word;
    for (const char* word : {"", "x", "tags", "name", "notes", "gamma", "epsilon", "description", "random_seed", "mood"})
        EXPECT_EQ(misspeltName(word, known), "") << word;
}

}  // namespace
}  // namespace aimerge
