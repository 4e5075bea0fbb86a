#include "aimerge/core/size_text.h"

#include "aimerge/core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

namespace aimerge {
namespace {

struct SizeUnit {
    std::string_view name;  // lower case
    std::uint64_t bytes;
};

constexpr std::array kSizeUnits{
    SizeUnit{"", 1},
    SizeUnit{"b", 1},
    SizeUnit{"kb", 1000},
    SizeUnit{"mb", 1000'000},
    SizeUnit{"gb", 1000'000'000},
    SizeUnit{"tb", 1000'000'000'000},
    SizeUnit{"kib", std::uint64_t{1} << 10},
    SizeUnit{"mib", std::uint64_t{1} << 20},
    SizeUnit{"gib", std::uint64_t{1} << 30},
    SizeUnit{"tib", std::uint64_t{1} << 40},
};

std::string lowerCase(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return lower;
}

struct Scaled {
    double value;      // rounds to less than 1000 with three significant digits
    std::size_t step;  // power of 1000 it was divided by
};

Scaled scaled(double value, std::size_t largestStep) {
    std::size_t step = 0;
    while (value >= 999.5 && step < largestStep) {
        value /= 1000;
        ++step;
    }
    return {value, step};
}

/// Letters put in, left out or replaced, and neighbours exchanged.
std::size_t editsBetween(std::string_view a, std::string_view b) {
    std::vector<std::vector<std::size_t>> edits(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) edits[i][0] = i;
    for (std::size_t j = 0; j <= b.size(); ++j) edits[0][j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i)
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = edits[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            edits[i][j] = std::min({replaced, edits[i - 1][j] + 1, edits[i][j - 1] + 1});
            const bool isExchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (isExchanged) edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
        }
    return edits[a.size()][b.size()];
}

std::string threeDigits(double value) {
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return fmt::format("{:.{}f}", value, decimals);
}

}  // namespace

std::uint64_t parseSize(std::string_view text) {
    const auto fail = [&]() -> std::uint64_t {
        throw UsageError(
            "'{}' is not a size; write bytes (4096) or a number with B, kB, MB, GB, TB (powers of 1000) or "
            "KiB, MiB, GiB, TiB (powers of 1024), for example 5GB or 512MiB",
            text);
    };
    const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    const std::string_view number = text.substr(0, digits);
    std::string_view unitText = text.substr(digits);
    if (unitText.size() > 1 && unitText.front() == ' ') unitText.remove_prefix(1);
    const auto unit = std::find_if(kSizeUnits.begin(), kSizeUnits.end(),
                                   [name = lowerCase(unitText)](const SizeUnit& known) { return known.name == name; });
    if (unit == kSizeUnits.end()) return fail();

    const char* end = number.data() + number.size();
    if (number.find('.') == std::string_view::npos) {
        std::uint64_t count = 0;
        const auto [stop, error] = std::from_chars(number.data(), end, count);
        if (error != std::errc{} || stop != end || count > ~std::uint64_t{0} / unit->bytes) return fail();
        return count * unit->bytes;
    }
    double count = 0;
    const auto [stop, error] = std::from_chars(number.data(), end, count, std::chars_format::fixed);
    const double bytes = std::round(count * static_cast<double>(unit->bytes));
    if (error != std::errc{} || stop != end || unit->bytes == 1 || !(bytes < 0x1p63)) return fail();
    return static_cast<std::uint64_t>(bytes);
}

ByteUnit byteUnitFor(std::uint64_t bytes) {
    constexpr std::array<std::string_view, 7> kNames{"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    const Scaled size = scaled(static_cast<double>(bytes), kNames.size() - 1);
    return {std::pow(1000.0, static_cast<double>(size.step)), kNames[size.step]};
}

std::string formatBytes(std::uint64_t bytes) {
    if (bytes < 1000) return fmt::format("{} B", bytes);
    const ByteUnit unit = byteUnitFor(bytes);
    return fmt::format("{} {}", threeDigits(static_cast<double>(bytes) / unit.bytes), unit.name);
}

std::string formatSeconds(double seconds) {
    if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
    const auto whole = static_cast<std::int64_t>(std::llround(seconds));
    if (whole < 60) return fmt::format("{}s", whole);
    if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
    const std::int64_t minutes = (whole + 30) / 60;
    return fmt::format("{}h{:02}m", minutes / 60, minutes % 60);
}

std::string formatCount(double count) {
    constexpr std::array<std::string_view, 7> kSuffixes{"", " k", " M", " G", " T", " P", " E"};
    const Scaled size = scaled(count, kSuffixes.size() - 1);
    if (size.step == 0 && count == std::floor(count)) return fmt::format("{:.0f}", count);
    return threeDigits(size.value) + std::string(kSuffixes[size.step]);
}

std::string nearestName(std::string_view word, const std::vector<std::string>& candidates) {
    std::string nearest;
    std::size_t smallest = word.size() / 3 + 2;  // one above what is still accepted
    std::vector<std::size_t> row;                // row[j] = edit distance of the first i letters of word and j of candidate
    for (const std::string& candidate : candidates) {
        row.resize(candidate.size() + 1);
        std::iota(row.begin(), row.end(), std::size_t{0});
        for (std::size_t i = 1; i <= word.size(); ++i) {
            std::size_t diagonal = std::exchange(row[0], i);
            for (std::size_t j = 1; j <= candidate.size(); ++j) {
                const std::size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
            }
        }
        if (row.back() < smallest) {
            smallest = row.back();
            nearest = candidate;
        }
    }
    return nearest;
}

std::string misspeltName(std::string_view word, const std::vector<std::string>& candidates) {
    const auto plain = [](std::string_view name) {
        std::string lower = lowerCase(name);
        std::ranges::replace(lower, '-', '_');
        return lower;
    };
    const std::string own = plain(word);
    for (const std::string& candidate : candidates) {
        const std::size_t allowed = candidate.size() < 3 ? 0 : candidate.size() < 6 ? 1 : 2;
        if (editsBetween(own, plain(candidate)) <= allowed) return candidate;
    }
    return {};
}

}  // namespace aimerge
