#include "aimerge/core/read_ahead.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/temporary_folder.h"
#include "aimerge/core/thread_pool.h"
#include "core/page_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

namespace aimerge {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr std::uint64_t kPiece = kReadAheadPieceBytes;
constexpr std::uint64_t kTensorBegin = 1234, kTensorEnd = 3 * kPiece + 777, kFileBytes = kTensorEnd + 4321;

std::vector<std::byte> contents(std::uint64_t bytes) {
    std::vector<std::byte> values(bytes);
    std::mt19937_64 random(7);
    for (std::size_t i = 0; i + 8 <= values.size(); i += 8) {
        const std::uint64_t number = random();
        std::memcpy(values.data() + i, &number, sizeof number);
    }
    return values;
}

class ReadAheadTest : public testing::Test {
protected:
    File made(const std::string& name, std::span<const std::byte> bytes) const {
        File file = File::openForWriting(folder_.path() / name);
        file.writeAt(0, bytes);
        file.sync();
        return File::openForReading(folder_.path() / name);
    }

    static void makeCold(const File& file) { ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED); }

    static bool canBeCold(const File& file) {
        makeCold(file);
        return inPageCache(file, {0, kPiece}) == InPageCache::No;
    }

    TemporaryFolder folder_;
};

std::vector<PieceAhead> piecesOf(const File& file, ByteRange bytes, Reading reading) {
    std::vector<PieceAhead> pieces;
    addPieces(pieces, file, bytes, reading);
    return pieces;
}

/// In stretches of some size, in the order that `order` makes of them.
template <typename Order>
std::vector<std::byte> readInStretches(const File& file, std::uint64_t bytes, std::uint64_t stretch, const Order& order) {
    std::vector<std::uint64_t> places;
    for (std::uint64_t at = 0; at < bytes; at += stretch) places.push_back(at);
    order(places);
    std::vector<std::byte> all(bytes);
    ThreadPool threads(3);
    threads.forEach(places.size(), [&](std::size_t i, int) {
        file.readAt(places[i], std::span(all).subspan(places[i], std::min(stretch, bytes - places[i])));
    });
    return all;
}

TEST_F(ReadAheadTest, CutsARangeIntoPieces) {
    const File file = made("a", contents(100));

    const auto pieces = piecesOf(file, {10, 10 + 2 * kPiece + 1}, Reading::Once);

    ASSERT_EQ(pieces.size(), 3u);
    EXPECT_EQ(pieces[1].bytes, (ByteRange{10 + kPiece, 10 + 2 * kPiece}));
    EXPECT_EQ(pieces[2].bytes, (ByteRange{10 + 2 * kPiece, 10 + 2 * kPiece + 1}));
    EXPECT_TRUE(piecesOf(file, {5, 5}, Reading::Once).empty());
}

// A whole file, with what stands before, between and behind the pieces.
TEST_F(ReadAheadTest, GivesTheSameBytesInEveryOrderAndMemory) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes);
    const auto inOrder = [](std::vector<std::uint64_t>&) {};
    const auto shuffled = [](std::vector<std::uint64_t>& places) { std::ranges::shuffle(places, std::mt19937(3)); };

    for (const std::uint64_t memory : {std::uint64_t{0}, std::uint64_t{1}, kPiece + 8192, 3 * kPiece, 64 * kPiece}) {
        for (const Reading reading : {Reading::Once, Reading::Kept, Reading::Repeated}) {
            for (const bool isCold : {true, false}) {
                SCOPED_TRACE(testing::Message()
                             << memory << " bytes, reading " << static_cast<int>(reading) << ", cold " << isCold);
                if (isCold) makeCold(file);
                auto pieces = piecesOf(file, {kTensorBegin, kPiece}, reading);
                std::ranges::copy(piecesOf(file, {kPiece + 5, kTensorEnd}, reading), std::back_inserter(pieces));
                ReadAhead ahead(pieces, memory);

                EXPECT_EQ(readInStretches(file, kFileBytes, 100'000, inOrder), bytes);
                EXPECT_EQ(readInStretches(file, kFileBytes, 2 * kPiece + 3, inOrder), bytes);
                EXPECT_EQ(readInStretches(file, kFileBytes, 65'537, shuffled), bytes);
                ahead.forget(0, 1);
                EXPECT_EQ(readInStretches(file, kFileBytes, 1 << 20, shuffled), bytes);
            }
        }
    }
}

TEST_F(ReadAheadTest, ReadsWhatIsNotInThePageCacheOnceAndKeepsItOut) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes);
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";

    ReadAhead ahead(piecesOf(file, {0, kTensorEnd}, Reading::Once), 64 * kPiece);
    const auto read = readInStretches(file, kTensorEnd, 100'000, [](auto&) {});

    EXPECT_TRUE(std::ranges::equal(read, std::span(bytes).first(kTensorEnd)));
    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), kTensorEnd);
    if (ahead.directBytes() > 0) {
        EXPECT_EQ(inPageCache(file, {0, kPiece}), InPageCache::No);
    }
}

TEST_F(ReadAheadTest, WhatIsReadRepeatedlyComesThroughThePageCache) {
    const File file = made("a", contents(kFileBytes));
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";
    auto pieces = piecesOf(file, {0, kPiece}, Reading::Repeated);
    for (int i = 0; i < 2; ++i) pieces.push_back({&file, {kPiece, 2 * kPiece}, Reading::Once});  // twice

    ReadAhead ahead(pieces, 64 * kPiece);
    readInStretches(file, 2 * kPiece, 100'000, [](auto&) {});

    EXPECT_EQ(ahead.cachedBytes(), 2 * kPiece);
    EXPECT_EQ(ahead.directBytes(), 0u);
    EXPECT_EQ(inPageCache(file, {0, 2 * kPiece}), InPageCache::Yes);
    ahead.forget(0, 1);
    EXPECT_EQ(inPageCache(file, {0, kPiece}), InPageCache::No) << "not needed any more";
    EXPECT_EQ(inPageCache(file, {kPiece, 2 * kPiece}), InPageCache::Yes);
}

TEST_F(ReadAheadTest, WhatIsKeptIsReadFromTheFileOnce) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes);
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";

    ReadAhead ahead(piecesOf(file, {0, kPiece}, Reading::Kept), 64 * kPiece);
    for (int time = 0; time < 3; ++time)
        EXPECT_TRUE(
            std::ranges::equal(readInStretches(file, kPiece, 100'000, [](auto&) {}), std::span(bytes).first(kPiece)));

    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), kPiece);
    if (ahead.directBytes() > 0) {
        EXPECT_EQ(inPageCache(file, {0, kPiece}), InPageCache::No);
    }
}

TEST_F(ReadAheadTest, WhatIsKeptMakesRoomInItsLastReading) {
    const auto bytes = contents(12 * kPiece);
    const File file = made("a", bytes);
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";
    const auto isRead = [&](const ReadAhead& ahead, std::uint64_t pieces) {
        for (int i = 0; i < 500 && ahead.directBytes() + ahead.cachedBytes() < pieces * kPiece; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        return ahead.directBytes() + ahead.cachedBytes() == pieces * kPiece;
    };

    ReadAhead ahead(piecesOf(file, {0, bytes.size()}, Reading::Kept), 8 * kPiece + 65'536);  // six, and two for readers
    ASSERT_TRUE(isRead(ahead, 6));
    for (int time = 0; time < 3; ++time) readInStretches(file, 6 * kPiece, 100'000, [](auto&) {});
    EXPECT_TRUE(isRead(ahead, 6)) << "nothing has left memory";
    ahead.readOnceMore(0, 6);
    std::vector<std::byte> first(kPiece), second(kPiece - 1);
    file.readAt(0, first);
    file.readAt(kPiece, second);
    EXPECT_TRUE(isRead(ahead, 7)) << "the first has made room, and the second is not all read";
    EXPECT_EQ(readInStretches(file, bytes.size(), 100'000, [](auto&) {}), bytes);
}

TEST_F(ReadAheadTest, WhatSeveralReadersKeepIsReadFromTheFileOnce) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes), again = File::openForReading(file.path());
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";
    auto pieces = piecesOf(file, {0, kPiece}, Reading::Kept);
    std::ranges::copy(piecesOf(again, {0, kPiece}, Reading::Kept), std::back_inserter(pieces));
    EXPECT_EQ(distinctBytes(pieces), kPiece);

    ReadAhead ahead(pieces, 64 * kPiece);
    for (const File* reader : {&file, &again})
        EXPECT_TRUE(
            std::ranges::equal(readInStretches(*reader, kPiece, 100'000, [](auto&) {}), std::span(bytes).first(kPiece)));

    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), kPiece);
    ahead.forget(0, 2);
    EXPECT_TRUE(std::ranges::equal(readInStretches(file, kPiece, 100'000, [](auto&) {}), std::span(bytes).first(kPiece)));
}

TEST_F(ReadAheadTest, LeavesWhatIsInThePageCacheToItsReader) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes);
    readInStretches(file, kFileBytes, kPiece, [](auto&) {});

    ReadAhead ahead(piecesOf(file, {0, kFileBytes}, Reading::Once), 64 * kPiece);

    EXPECT_EQ(readInStretches(file, kFileBytes, 100'000, [](auto&) {}), bytes);
    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), 0u);
}

TEST_F(ReadAheadTest, KeepsToItsMemoryUntilWhatItHasIsTaken) {
    const auto bytes = contents(16 * kPiece);
    const File file = made("a", bytes);
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";
    const std::uint64_t memory = 5 * kPiece;  // three pieces and what they take to be aligned, in three quarters of it

    ReadAhead ahead(piecesOf(file, {0, bytes.size()}, Reading::Once), memory);
    for (int i = 0; i < 200 && ahead.directBytes() + ahead.cachedBytes() < 3 * kPiece; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));

    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), 3 * kPiece) << "a quarter is left to readers";
    EXPECT_EQ(readInStretches(file, bytes.size(), 1 << 20, [](auto&) {}), bytes);
    EXPECT_EQ(ahead.directBytes() + ahead.cachedBytes(), bytes.size());
}

// Pieces that nobody takes would fill the memory for good.
TEST_F(ReadAheadTest, GoesOnWhenPiecesAreForgotten) {
    const auto bytes = contents(16 * kPiece);
    const File file = made("a", bytes);
    if (!canBeCold(file)) GTEST_SKIP() << "the file system keeps files in memory";

    ReadAhead ahead(piecesOf(file, {0, bytes.size()}, Reading::Once), 4 * kPiece + 32'768);
    ahead.forget(0, 12);
    std::vector<std::byte> end(4 * kPiece);
    file.readAt(12 * kPiece, end);

    EXPECT_TRUE(std::ranges::equal(end, std::span(bytes).subspan(12 * kPiece)));
    EXPECT_GE(ahead.directBytes() + ahead.cachedBytes(), 3 * kPiece);
}

TEST_F(ReadAheadTest, ErrorsAreThoseOfReadingWithoutIt) {
    const File file = made("short", contents(kPiece + 100));
    for (const bool isCold : {true, false}) {
        if (isCold) makeCold(file);
        ReadAhead ahead(piecesOf(file, {0, 2 * kPiece}, Reading::Once), 64 * kPiece);
        std::vector<std::byte> out(200);

        EXPECT_THAT([&] { file.readAt(kPiece, out); },
                    ThrowsMessage<InputError>(HasSubstr("short: 100 bytes are missing at offset 4194404")));
    }
}

TEST_F(ReadAheadTest, FilesAreReadAsBeforeWhenItHasGone) {
    const auto bytes = contents(kFileBytes);
    const File file = made("a", bytes);
    makeCold(file);

    { const ReadAhead ahead(piecesOf(file, {0, kFileBytes}, Reading::Once), 64 * kPiece); }

    EXPECT_EQ(readInStretches(file, kFileBytes, 1 << 20, [](auto&) {}), bytes);
}

}  // namespace
}  // namespace aimerge
