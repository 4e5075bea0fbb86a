#include "corpus/token_cache.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/safetensors/safetensors.h"
#include "corpus/token_ids_file.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <limits>
#include <span>
#include <string>

namespace aimerge {
namespace {

constexpr const char* kDigestKey = "content_digest";
constexpr const char* kUnusedKey = "unused_tokens";

std::string safetensorsText(const TokenBlocks& blocks) {
    const std::span<const std::int32_t> ids(blocks.ids);
    nlohmann::ordered_json header;
    header["__metadata__"] = {{kDigestKey, digestOf(blocks).hex()}, {kUnusedKey, std::to_string(blocks.unusedTokens)}};
    header["input_ids"] = {
        {"dtype", "I32"}, {"shape", {blocks.blocks, blocks.length}}, {"data_offsets", {std::uint64_t{0}, ids.size_bytes()}}};
    std::string json = header.dump();
    json.resize((json.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = json.size();
    std::string text(reinterpret_cast<const char*>(&length), sizeof length);
    text += json;
    return text.append(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
}

}  // namespace

TokenCache TokenCache::ofUser() {
    return TokenCache(environment::cacheDirectory() / "tokens");
}

std::filesystem::path TokenCache::pathOf(const Digest& key) const {
    return folder_ / (key.hex() + ".safetensors");
}

std::optional<TokenBlocks> TokenCache::find(const Digest& key) const {
    const std::filesystem::path path = pathOf(key);
    std::error_code unreachable;
    if (!exists(path, unreachable)) return std::nullopt;
    try {
        const auto metadata = readSafetensorsHeader(path).metadata;
        TokenBlocks blocks = readTokenIds(path, std::numeric_limits<std::int64_t>::max());
        const auto written = metadata.find(kDigestKey);
        if (const auto unused = metadata.find(kUnusedKey); unused != metadata.end())
            std::from_chars(unused->second.data(), unused->second.data() + unused->second.size(), blocks.unusedTokens);
        if (written != metadata.end() && written->second == digestOf(blocks).hex()) return blocks;
        spdlog::warn("{}: the cached token ids do not match their checksum; the corpus is encoded again", path.string());
    } catch (const InputError& error) {
        spdlog::warn("{}; this cache entry is ignored and the corpus is encoded again", error.what());
    }
    return std::nullopt;
}

void TokenCache::store(const Digest& key, const TokenBlocks& blocks) const {
    std::error_code error;
    create_directories(folder_, error);
    if (error) {
        spdlog::warn("{}: the folder cannot be made ({}); the token ids are not kept for the next run", folder_.string(),
                     error.message());
        return;
    }
    try {
        writeTextFile(pathOf(key), safetensorsText(blocks));
    } catch (const RuntimeFault& fault) {
        spdlog::warn("{}; the token ids are not kept for the next run", fault.what());
    }
}

}  // namespace aimerge
