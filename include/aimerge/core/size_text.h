#pragma once
// Sizes, durations and rates as people write and read them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

/// "5GB" = 5e9, "512MiB" = 512 * 2^20, "4096000" = bytes; upper or lower case, one blank allowed before the unit. Plain
/// bytes below 1 MB, but 0, are refused: whoever writes "1B" means a billion.
/// @throws UsageError naming the text and the accepted forms
std::uint64_t parseSize(std::string_view text);

/// The decimal unit in which an amount is written: 24.2e9 gives {1e9, "GB"}.
struct ByteUnit {
    double bytes;
    std::string_view name;
};
ByteUnit byteUnitFor(std::uint64_t bytes);

/// "24.2 GB" (decimal units, three significant digits); below 1000: "12 B".
std::string formatBytes(std::uint64_t bytes);

/// "8m30s", "1h02m", "12s", "0.8s".
std::string formatSeconds(double seconds);

/// "1.25 T" for FLOP counts and other large numbers.
std::string formatCount(double count);

/// The candidate with the smallest edit distance to `word`, if it is at most a third of the word's
/// length plus one; else empty.
std::string nearestName(std::string_view word, const std::vector<std::string>& candidates);

/// The candidate that `word` is a slip of: the same but for upper case and '-' in the place of '_', or one edit
/// away, from six letters on two; two neighbours that changed places are one edit. Of up to two letters nothing
/// is a slip. Empty when none.
std::string misspeltName(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace aimerge
