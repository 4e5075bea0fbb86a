#include "aimerge/core/file.h"

#include "aimerge/core/error.h"
#include "core/page_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

class FileTest : public testing::Test {
protected:
    FileTest() {
        std::string name = (std::filesystem::temp_directory_path() / "aimerge-file-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
        folder_ = name;
    }
    ~FileTest() override { std::filesystem::remove_all(folder_); }

    std::filesystem::path given(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ / name, std::ios::binary) << text;
        return folder_ / name;
    }

    std::filesystem::path folder_;
};

std::string readText(const File& file, std::uint64_t offset, std::size_t count) {
    std::string text(count, '?');
    file.readAt(offset, std::as_writable_bytes(std::span(text)));
    return text;
}

TEST_F(FileTest, ReadsExactlyTheRangeAskedFor) {
    const File file = File::openForReading(given("a", "0123456789"));

    EXPECT_EQ(file.size(), 10u);
    EXPECT_EQ(readText(file, 3, 4), "3456");
    EXPECT_EQ(readText(file, 10, 0), "");
}

TEST_F(FileTest, SaysHowManyBytesOfAShortFileAreMissing) {
    const File file = File::openForReading(given("short.bin", "0123456789"));

    EXPECT_THAT([&] { readText(file, 8, 5); },
                ThrowsMessage<InputError>(AllOf(HasSubstr("short.bin: 3 bytes are missing at offset 10"),
                                                HasSubstr("the file has 10 bytes; the file was probably cut short"))));
}

TEST_F(FileTest, NamesWhatCannotBeOpened) {
    EXPECT_THAT([&] { File::openForReading(folder_ / "absent"); },
                ThrowsMessage<InputError>(HasSubstr("absent: the file does not exist")));
    EXPECT_THAT([&] { File::openForReading(folder_); },
                ThrowsMessage<InputError>(HasSubstr("is a folder, a file was expected")));
    EXPECT_THAT([&] { File::openForWriting(folder_ / "no" / "where"); },
                ThrowsMessage<RuntimeFault>(HasSubstr("where: cannot be opened for writing: No such file or directory")));
}

TEST_F(FileTest, WritesAtOffsetsAppendsAndKeepsWhatWasThere) {
    const std::filesystem::path path = given("a", "0123456789");
    {
        File file = File::openForWriting(path);
        file.writeAt(2, std::as_bytes(std::span(std::string_view("ab"))));
        file.append("!");
        file.startWriteback({0, 4});
        file.startWriteback({0, 0});
        file.sync();
    }
    EXPECT_EQ(readTextFile(path), "01ab456789!");

    File::openForWriting(path).resize(3);
    EXPECT_EQ(readTextFile(path), "01a");
}

TEST_F(FileTest, StartReadingBringsAllOfALongRange) {
    constexpr std::uint64_t kBytes = std::uint64_t{24} << 20;  // more than a kernel reads ahead by itself
    const std::filesystem::path path = given("long", std::string(kBytes, 'x'));
    File::openForWriting(path).sync();
    const File file = File::openForReading(path);
    ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
    if (inPageCache(file, {0, kBytes}) != InPageCache::No) GTEST_SKIP() << "files here do not leave the page cache";

    file.startReading({0, 0});
    EXPECT_EQ(inPageCache(file, {0, kBytes}), InPageCache::No);
    file.startReading({0, kBytes});
    constexpr std::uint64_t kPart = std::uint64_t{128} << 10;
    for (std::uint64_t part = 0; part < kBytes; part += kPart) {
        for (int tries = 0; tries < 1000 && inPageCache(file, {part, part + kPart}) != InPageCache::Yes; ++tries)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        ASSERT_EQ(inPageCache(file, {part, part + kPart}), InPageCache::Yes) << part;
    }
}

TEST_F(FileTest, AFullDiskIsReportedWithOffsetAndRemedy) {
    File full = File::openForWriting("/dev/full");

    EXPECT_THAT([&] { full.writeAt(7, std::as_bytes(std::span(std::string_view("abc")))); },
                ThrowsMessage<RuntimeFault>(AllOf(HasSubstr("/dev/full: writing 3 bytes at offset 7 failed"),
                                                  HasSubstr("No space left on device; free space there"))));
}

TEST_F(FileTest, MovingHandsTheDescriptorOver) {
    File first = File::openForReading(given("a", "abc"));
    const int descriptor = first.descriptor();

    File second = std::move(first);
    File third;
    third = std::move(second);

    EXPECT_EQ(third.descriptor(), descriptor);
    EXPECT_EQ(second.descriptor(), -1);
    EXPECT_EQ(readText(third, 0, 3), "abc");
}

TEST_F(FileTest, TextFilesHaveALimit) {
    const std::filesystem::path path = given("big.json", "0123456789");

    EXPECT_EQ(readTextFile(path, 10), "0123456789");
    EXPECT_THAT([&] { readTextFile(path, 9); },
                ThrowsMessage<InputError>(HasSubstr("has 10 bytes, more than the 9 allowed")));
}

TEST_F(FileTest, WritingATextFileReplacesItAndLeavesNothingElse) {
    const std::filesystem::path path = given("a.json", "a longer text than the new one");

    writeTextFile(path, "new");

    EXPECT_EQ(readTextFile(path), "new");
    const std::filesystem::directory_iterator entries(folder_);
    EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(FileTest, AFailedTextFileLeavesNoTemporary) {
    std::filesystem::create_directory(folder_ / "taken");
    given("taken/file", "");

    EXPECT_THAT([&] { writeTextFile(folder_ / "taken", "text"); },
                ThrowsMessage<RuntimeFault>(HasSubstr("taken: renaming")));

    const std::filesystem::directory_iterator entries(folder_);
    EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

}  // namespace
}  // namespace aimerge
