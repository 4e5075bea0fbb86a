#include "aimerge/core/hash.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace aimerge {
namespace {

std::vector<std::byte> counting(std::size_t bytes) {
    std::vector<std::byte> result(bytes);
    for (std::size_t i = 0; i < bytes; ++i) result[i] = static_cast<std::byte>(i % 251);
    return result;
}

// Computed with the Python binding of xxhash over bytes(i % 251 for i in range(n)); the lengths reach each code path of
// XXH3.
const std::vector<std::pair<std::size_t, std::string>> kKnownAnswers{
    {0, "99aa06d3014798d86001c324468d497f"},    {1, "a6cd5e9392000f6ac44bdff4074eecdb"},
    {3, "e3b55f57945a17cf5f4299fc161c9cbb"},    {16, "72950631827607e2842812cc870dcae2"},
    {17, "685bc458b37d057fc06e233df7729217"},   {100, "da95ef16fd9566f329b20ba5f03ec01e"},
    {240, "65b5be86da5540e7c92b68e16f83bbb6"},  {241, "1da1cb61bcb8a2a102e8cd95421c6d02"},
    {1024, "d0ac1f7b93bf57b9e5d78bafa45b2aa5"}, {5000, "b92ec02c39d33ce7b418500fc42320ee"},
};

TEST(Hash, GivesTheKnownAnswers) {
    for (const auto& [bytes, hex] : kKnownAnswers) EXPECT_EQ(digestOf(counting(bytes)).hex(), hex) << bytes;
    EXPECT_EQ(digestOf("abc").hex(), "06b05ab6733a618578af5f94892f3950");
}

TEST(Digest, IsReadBackFromItsDigitsAndFromNothingElse) {
    const std::string hex = "06b05ab6733a618578af5f94892f3950";
    EXPECT_EQ(Digest::fromHex(hex), digestOf("abc"));
    for (const char* bad : {"", "06b05ab6733a618578af5f94892f395", "06b05ab6733a618578af5f94892f39500",
                            "G6b05ab6733a618578af5f94892f3950", "06B05AB6733A618578AF5F94892F3950"})
        EXPECT_EQ(Digest::fromHex(bad), std::nullopt) << bad;
}

TEST(Hasher, GivesTheSameForAnyCutOfTheStream) {
    const std::vector<std::byte> bytes = counting(5000);
    for (std::size_t piece : {1, 7, 256, 4999, 5000}) {
        Hasher hasher;
        for (std::size_t begin = 0; begin < bytes.size(); begin += piece)
            hasher.update(std::span(bytes).subspan(begin, std::min(piece, bytes.size() - begin)));
        EXPECT_EQ(hasher.digest(), digestOf(bytes)) << piece;
    }
}

TEST(Hasher, OfNothingIsTheDigestOfNothing) {
    EXPECT_EQ(Hasher().digest(), digestOf(""));
}

TEST(Hasher, FieldsCarryTheirLengths) {
    Hasher hasher;
    hasher.updateField("ab").updateField("c");

    EXPECT_EQ(hasher.digest().hex(), "f2eda2708bcfd51cc05c0ee4c9f60440");  // lengths as 8 bytes, little-endian
    EXPECT_NE(hasher.digest(), Hasher().updateField("a").updateField("bc").digest());
}

TEST(Hasher, MovesItsState) {
    Hasher first;
    first.update(counting(100));

    Hasher second = std::move(first);

    EXPECT_EQ(second.digest(), digestOf(counting(100)));
}

}  // namespace
}  // namespace aimerge
