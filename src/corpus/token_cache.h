#pragma once
// Token blocks of earlier runs, in environment::cacheDirectory()/tokens, one safetensors file per digest of all that decided
// them. The cache saves time and nothing else: a damaged or unwritable entry costs a warning, never the run.

#include "aimerge/corpus/token_blocks.h"

#include <filesystem>
#include <optional>

namespace aimerge {

class TokenCache {
public:
    explicit TokenCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// What loadTokenBlocks uses.
    static TokenCache ofUser();

    std::filesystem::path pathOf(const Digest& key) const;

    /// The blocks stored under the key; none when there are none, or after a warning when the entry is damaged.
    std::optional<TokenBlocks> find(const Digest& key) const;

    /// Replaces the entry in one step, so that a reader sees the old or the new one.
    void store(const Digest& key, const TokenBlocks& blocks) const;

private:
    std::filesystem::path folder_;
};

}  // namespace aimerge
