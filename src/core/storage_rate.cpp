#include "aimerge/core/storage_rate.h"

#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"
#include "core/page_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace aimerge {
namespace {

constexpr std::size_t kMostRead = kReadAheadBytes / kReadAheadPieceBytes;
constexpr std::size_t kMostLookedUp = 4096;

bool isCached(const PieceAhead& piece) {
    return livesInMemory(*piece.file) || inPageCache(*piece.file, piece.bytes) == InPageCache::Yes;
}

/// At most so many of them, at equal distances.
std::vector<PieceAhead> spread(std::span<const PieceAhead> pieces, std::size_t most) {
    std::vector<PieceAhead> chosen;
    const std::size_t count = std::min(pieces.size(), most);
    for (std::size_t i = 0; i < count; ++i) {
        chosen.push_back(pieces[i * pieces.size() / count]);
        chosen.back().reading = Reading::Once;
    }
    return chosen;
}

double bytesPerSecond(const std::vector<PieceAhead>& pieces) {
    using Clock = std::chrono::steady_clock;
    std::vector<std::byte> buffer(kReadAheadPieceBytes);
    std::uint64_t bytes = 0;
    const Clock::time_point begin = Clock::now();
    const ReadAhead reader(pieces, kReadAheadBytes);
    for (const PieceAhead& piece : pieces) {
        piece.file->readAt(piece.bytes.begin, std::span(buffer).first(piece.bytes.size()));
        bytes += piece.bytes.size();
    }
    return static_cast<double>(bytes) / std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

double StorageRate::seconds() const {
    return bytesPerSecond > 0 ? static_cast<double>(bytes - cachedBytes) / bytesPerSecond : 0;
}

StorageRate measureStorage(std::span<const PieceAhead> pieces) {
    StorageRate rate;
    for (const PieceAhead& piece : pieces) rate.bytes += piece.bytes.size();
    std::vector<PieceAhead> others;
    std::uint64_t lookedUp = 0, cached = 0;
    for (const PieceAhead& piece : spread(pieces, kMostLookedUp)) {
        lookedUp += piece.bytes.size();
        if (isCached(piece))
            cached += piece.bytes.size();
        else
            others.push_back(piece);
    }
    if (others.empty()) {
        rate.cachedBytes = rate.bytes;
        return rate;
    }
    rate.cachedBytes = static_cast<std::uint64_t>(static_cast<double>(rate.bytes) * static_cast<double>(cached) /
                                                  static_cast<double>(lookedUp));
    rate.bytesPerSecond = bytesPerSecond(spread(others, kMostRead));
    return rate;
}

std::string storageText(const StorageRate& rate) {
    std::string text = formatBytes(rate.bytes);
    if (rate.cachedBytes == rate.bytes) return text + ", in memory already";
    if (rate.cachedBytes > 0)
        text += fmt::format(", of which {} are in memory; the rest takes", formatBytes(rate.cachedBytes));
    else
        text += ", which takes";
    return text + fmt::format(" {} at {}/s, as measured now", formatSeconds(rate.seconds()),
                              formatBytes(static_cast<std::uint64_t>(rate.bytesPerSecond)));
}

}  // namespace aimerge
