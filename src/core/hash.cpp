#include "aimerge/core/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <cstring>
#include <new>

namespace aimerge {
namespace {

Digest canonical(XXH128_hash_t hash) {
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, hash);
    Digest digest;
    static_assert(sizeof bytes.digest == sizeof digest.bytes);
    std::memcpy(digest.bytes.data(), bytes.digest, digest.bytes.size());
    return digest;
}

}  // namespace

std::string Digest::hex() const {
    return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::optional<Digest> Digest::fromHex(std::string_view hex) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    Digest digest;
    if (hex.size() != 2 * digest.bytes.size()) return std::nullopt;
    for (std::size_t i = 0; i < digest.bytes.size(); ++i) {
        const std::size_t high = kDigits.find(hex[2 * i]), low = kDigits.find(hex[2 * i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
        digest.bytes[i] = static_cast<std::uint8_t>(16 * high + low);
    }
    return digest;
}

Digest digestOf(std::span<const std::byte> bytes) {
    return canonical(XXH3_128bits(bytes.data(), bytes.size()));
}

Digest digestOf(std::string_view text) {
    return digestOf(std::as_bytes(std::span(text)));
}

struct Hasher::State {
    struct Free {
        void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
    };
    std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
    if (!state_->xxh) throw std::bad_alloc();
    XXH3_128bits_reset(state_->xxh.get());
}

Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::update(std::span<const std::byte> bytes) {
    XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
    return *this;
}

Hasher& Hasher::updateField(std::string_view text) {
    std::array<std::byte, 8> length;  // little-endian on every machine
    for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(text.size() >> (8 * i));
    update(length);
    return update(std::as_bytes(std::span(text)));
}

Digest Hasher::digest() const {
    return canonical(XXH3_128bits_digest(state_->xxh.get()));
}

}  // namespace aimerge
