#include "aimerge/safetensors/tensor_digest.h"

#include "aimerge/core/error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

/// Bytes without a period that divides the block.
std::string someBytes(std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((i * 31 + i / 1009) % 251);
    return bytes;
}

std::string asText(const Digest& digest) {
    return {digest.bytes.begin(), digest.bytes.end()};
}

TEST(TensorDigest, IsTheDigestOfTheBlocksDigests) {
    const TempFolder folder;
    const std::string bytes = someBytes(kDigestBlockBytes + 5);
    writeBytes(folder / "f", "abc" + bytes);
    const File file = File::openForReading(folder / "f");

    const Digest digest = tensorDigest(file, {3, 3 + bytes.size()});

    const Digest first = digestOf(std::string_view(bytes).substr(0, kDigestBlockBytes));
    const Digest last = digestOf(std::string_view(bytes).substr(kDigestBlockBytes));
    EXPECT_EQ(digest, digestOf(asText(first) + asText(last)));
    EXPECT_EQ(digest, combineBlockDigests(std::vector<Digest>{first, last}));
    EXPECT_EQ(digestBlocks(bytes.size()), 2u);
}

TEST(TensorDigest, OfNoBytesIsTheDigestOfNothing) {
    const TempFolder folder;
    writeBytes(folder / "f", "abc");

    EXPECT_EQ(tensorDigest(File::openForReading(folder / "f"), {3, 3}), digestOf(""));
    EXPECT_EQ(digestBlocks(0), 0u);
    EXPECT_EQ(digestBlocks(kDigestBlockBytes), 1u);
}

TEST(TensorDigest, RefusesAFileThatIsTooShort) {
    const TempFolder folder;
    writeBytes(folder / "f", "abc");

    EXPECT_THROW(tensorDigest(File::openForReading(folder / "f"), {0, 4}), InputError);
}

}  // namespace
}  // namespace aimerge
