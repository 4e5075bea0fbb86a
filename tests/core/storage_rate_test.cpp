#include "aimerge/core/storage_rate.h"

#include "aimerge/core/file.h"
#include "aimerge/core/temporary_folder.h"
#include "core/page_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

namespace aimerge {
namespace {

class StorageRateTest : public testing::Test {
protected:
    File made(const char* name, std::uint64_t bytes) const {
        File file = File::openForWriting(folder_.path() / name);
        file.writeAt(0, std::vector<std::byte>(bytes, std::byte{7}));
        file.sync();
        return File::openForReading(folder_.path() / name);
    }

    static std::vector<PieceAhead> piecesOf(const File& file, std::uint64_t bytes) {
        std::vector<PieceAhead> pieces;
        addPieces(pieces, file, {0, bytes}, Reading::Once);
        return pieces;
    }

    TemporaryFolder folder_;
};

TEST_F(StorageRateTest, WhatIsInThePageCacheNeedsNoTime) {
    const File file = made("warm", 3 * kReadAheadPieceBytes);
    std::vector<std::byte> buffer(3 * kReadAheadPieceBytes);
    file.readAt(0, buffer);

    const StorageRate rate = measureStorage(piecesOf(file, 3 * kReadAheadPieceBytes));

    EXPECT_EQ(rate.bytes, 3 * kReadAheadPieceBytes);
    EXPECT_EQ(rate.cachedBytes, 3 * kReadAheadPieceBytes);
    EXPECT_EQ(rate.seconds(), 0);
}

TEST_F(StorageRateTest, WhatIsNotIsMeasured) {
    const File file = made("cold", 3 * kReadAheadPieceBytes + 10);
    ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
    if (inPageCache(file, {0, kReadAheadPieceBytes}) != InPageCache::No)
        GTEST_SKIP() << "files of this folder are always in memory";

    const StorageRate rate = measureStorage(piecesOf(file, 3 * kReadAheadPieceBytes + 10));

    EXPECT_EQ(rate.cachedBytes, 0u);
    EXPECT_GT(rate.bytesPerSecond, 0);
    EXPECT_DOUBLE_EQ(rate.seconds(), static_cast<double>(3 * kReadAheadPieceBytes + 10) / rate.bytesPerSecond);
    // Measuring leaves no trace in the page cache where it goes past it; where it does not, the next look says so.
    EXPECT_EQ(measureStorage(piecesOf(file, 3 * kReadAheadPieceBytes + 10)).bytes, 3 * kReadAheadPieceBytes + 10);
}

TEST(StorageText, SaysWhatIsReadAndHowLongItTakes) {
    EXPECT_EQ(storageText({}), "0 B, in memory already");
    EXPECT_EQ(storageText({.bytes = 4'000'000'000, .cachedBytes = 4'000'000'000}), "4.00 GB, in memory already");
    EXPECT_EQ(storageText({.bytes = 4'000'000'000, .cachedBytes = 1'000'000'000, .bytesPerSecond = 1.5e9}),
              "4.00 GB, of which 1.00 GB are in memory; the rest takes 2.0s at 1.50 GB/s, as measured now");
    EXPECT_EQ(storageText({.bytes = 4'000'000'000, .bytesPerSecond = 2e9}),
              "4.00 GB, which takes 2.0s at 2.00 GB/s, as measured now");
}

}  // namespace
}  // namespace aimerge
