#include "aimerge/distributed/byte_stream.h"

#include <algorithm>
#include <array>
#include <vector>

namespace aimerge {
namespace {

struct Buffer {
    std::vector<std::byte> bytes;
    World::Request travelling;
};

std::uint64_t partAt(std::uint64_t offset, std::uint64_t bytes) {
    return std::min<std::uint64_t>(World::kChunkBytes, bytes - offset);
}

}  // namespace

void sendBytes(World& world, int to, int tag, std::uint64_t bytes,
               const std::function<void(std::uint64_t offset, std::span<std::byte> part)>& read) {
    std::array<Buffer, 2> buffers;
    std::size_t turn = 0;
    for (std::uint64_t offset = 0; offset < bytes; offset += World::kChunkBytes, turn ^= 1) {
        Buffer& buffer = buffers[turn];
        buffer.travelling.wait();
        buffer.bytes.resize(partAt(offset, bytes));
        read(offset, buffer.bytes);
        buffer.travelling = world.send(to, tag, buffer.bytes);
    }
    for (Buffer& buffer : buffers) buffer.travelling.wait();
}

void receiveBytes(World& world, int from, int tag, std::uint64_t bytes,
                  const std::function<void(std::uint64_t offset, std::span<const std::byte> part)>& write) {
    std::array<Buffer, 2> buffers;
    const auto expect = [&](Buffer& buffer, std::uint64_t offset) {
        if (offset >= bytes) return;
        buffer.bytes.resize(partAt(offset, bytes));
        buffer.travelling = world.receive(from, tag, buffer.bytes);
    };
    expect(buffers[0], 0);
    std::size_t turn = 0;
    for (std::uint64_t offset = 0; offset < bytes; offset += World::kChunkBytes, turn ^= 1) {
        expect(buffers[turn ^ 1], offset + World::kChunkBytes);
        buffers[turn].travelling.wait();
        write(offset, buffers[turn].bytes);
    }
}

void sendText(World& world, int to, int tag, const std::string& text) {
    const std::uint64_t size = text.size();
    world.send(to, tag, std::as_bytes(std::span(&size, 1))).wait();
    world.send(to, tag, std::as_bytes(std::span(text))).wait();
}

std::string receiveText(World& world, int from, int tag) {
    std::uint64_t size = 0;
    world.receive(from, tag, std::as_writable_bytes(std::span(&size, 1))).wait();
    std::string text(size, '\0');
    world.receive(from, tag, std::as_writable_bytes(std::span(text))).wait();
    return text;
}

}  // namespace aimerge
