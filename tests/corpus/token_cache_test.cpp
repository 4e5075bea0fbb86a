#include "corpus/token_cache.h"

#include "aimerge/core/file.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

const TokenBlocks kBlocks{.blocks = 2, .length = 3, .ids = {1, 2, 3, 4, 5, 70000}};
const Digest kKey = digestOf(std::string_view("key"));

TEST(TokenCache, GivesBackWhatWasStored) {
    const TempFolder folder;
    const TokenCache cache(folder / "not" / "there yet");

    EXPECT_EQ(cache.find(kKey), std::nullopt);
    cache.store(kKey, kBlocks);

    EXPECT_EQ(cache.find(kKey), kBlocks);
    EXPECT_EQ(cache.find(digestOf(std::string_view("other"))), std::nullopt);
}

TEST(TokenCache, ReplacesAnEntry) {
    const TempFolder folder;
    const TokenCache cache(folder.path());
    const TokenBlocks other{.blocks = 1, .length = 1, .ids = {9}};
    cache.store(kKey, kBlocks);

    cache.store(kKey, other);

    EXPECT_EQ(cache.find(kKey), other);
}

TEST(TokenCache, IgnoresADamagedEntry) {
    const TempFolder folder;
    const TokenCache cache(folder.path());
    cache.store(kKey, kBlocks);
    const std::string whole = readTextFile(cache.pathOf(kKey));
    std::string changed = whole;
    changed[changed.size() - 5] ^= 1;

    for (const std::string& damaged : {changed, whole.substr(0, whole.size() - 4), whole.substr(0, 5), std::string()}) {
        writeBytes(cache.pathOf(kKey), damaged);
        EXPECT_EQ(cache.find(kKey), std::nullopt) << damaged.size() << " bytes";
    }
}

TEST(TokenCache, ThatCannotBeWrittenIsNoFailure) {
    const TempFolder folder;
    writeBytes(folder / "file", "in the way");
    const TokenCache cache(folder / "file" / "tokens");

    cache.store(kKey, kBlocks);

    EXPECT_EQ(cache.find(kKey), std::nullopt);
}

TEST(TokenBlocks, DigestDependsOnShapeAndIds) {
    TokenBlocks other = kBlocks;
    std::swap(other.blocks, other.length);
    EXPECT_NE(digestOf(other), digestOf(kBlocks));

    other = kBlocks;
    other.ids[5] += 1;
    EXPECT_NE(digestOf(other), digestOf(kBlocks));
    EXPECT_EQ(digestOf(TokenBlocks(kBlocks)), digestOf(kBlocks));
}

}  // namespace
}  // namespace aimerge
