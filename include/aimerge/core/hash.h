#pragma once
// XXH3 with 128 bits, the checksum and digest used everywhere (the same value as `xxh128sum`).

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace aimerge {

struct Digest {
    std::array<std::uint8_t, 16> bytes{};  // canonical (big-endian) order

    std::string hex() const;  // 32 lower-case digits
    /// The inverse of hex(); nullopt for any other text.
    static std::optional<Digest> fromHex(std::string_view hex);
    bool operator==(const Digest&) const = default;
};

Digest digestOf(std::span<const std::byte> bytes);
Digest digestOf(std::string_view text);

/// Digest of a stream of bytes: update() any number of times, then digest().
class Hasher {
public:
    Hasher();
    ~Hasher();
    Hasher(Hasher&&) noexcept;
    Hasher& operator=(Hasher&&) noexcept;

    Hasher& update(std::span<const std::byte> bytes);
    /// Adds the length first, so that ("ab","c") and ("a","bc") differ.
    Hasher& updateField(std::string_view text);
    Digest digest() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace aimerge
