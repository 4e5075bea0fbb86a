#pragma once
// Long runs of bytes from one rank to another in bounded memory: two buffers of World::kChunkBytes on each side, one of
// which travels while the other is filled or emptied. Point to point; the main thread of both ranks calls.

#include "aimerge/distributed/world.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace aimerge {

/// @param read fills the span with the bytes from `offset` on; called for consecutive parts
void sendBytes(World& world, int to, int tag, std::uint64_t bytes,
               const std::function<void(std::uint64_t offset, std::span<std::byte> part)>& read);

/// @param write gets the bytes from `offset` on; called for consecutive parts of World::kChunkBytes, the last one shorter
void receiveBytes(World& world, int from, int tag, std::uint64_t bytes,
                  const std::function<void(std::uint64_t offset, std::span<const std::byte> part)>& write);

/// A text whose length the receiver does not know.
void sendText(World& world, int to, int tag, const std::string& text);
std::string receiveText(World& world, int from, int tag);

}  // namespace aimerge
