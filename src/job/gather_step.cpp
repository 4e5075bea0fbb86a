#include "job/gather_step.h"

#include "aimerge/distributed/byte_stream.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace aimerge {
namespace {

using Json = nlohmann::json;

// A list's length; then the list and the tensors. Apart, because rank 0 waits for the next length all the time.
constexpr int kAnnouncementTag = 22, kTensorsTag = 23;

}  // namespace

OutgoingStore::OutgoingStore(const MergeJob& job) : points_(job.points.size()) {
    for (const OutputTensor& tensor : job.outputs) bytesOf_[tensor.name] = tensor.bytes();
}

void OutgoingStore::write(std::size_t point, const std::string& tensor, std::uint64_t offset,
                          std::span<const std::byte> bytes) {
    std::byte* place = nullptr;
    {
        const std::scoped_lock lock(mutex_);
        auto& held = held_[tensor];
        if (held.empty()) held.assign(points_, std::vector<std::byte>(bytesOf_.at(tensor)));
        place = held[point].data() + offset;
    }
    std::memcpy(place, bytes.data(), bytes.size());
}

void OutgoingStore::finish(const std::string& tensor) {
    const std::scoped_lock lock(mutex_);
    finished_.push_back(tensor);
}

void OutgoingStore::send(World& world) {
    if (finished_.empty()) return;
    Json list = Json::array();
    for (const std::string& tensor : finished_) list.push_back({tensor, bytesOf_.at(tensor)});
    const std::string text = list.dump();
    const std::uint64_t length = text.size();
    world.send(0, kAnnouncementTag, std::as_bytes(std::span(&length, 1))).wait();
    world.send(0, kTensorsTag, std::as_bytes(std::span(text))).wait();
    for (const std::string& tensor : finished_)
        for (const std::vector<std::byte>& held : held_[tensor])
            sendBytes(world, 0, kTensorsTag, held.size(), [&](std::uint64_t offset, std::span<std::byte> part) {
                std::memcpy(part.data(), held.data() + offset, part.size());
            });
    for (const std::string& tensor : finished_) held_.erase(tensor);
    finished_.clear();
}

void OutgoingStore::sendEnd(World& world) {
    const std::uint64_t none = 0;
    world.send(0, kAnnouncementTag, std::as_bytes(std::span(&none, 1))).wait();
}

IncomingTensors::IncomingTensors(World& world, std::size_t points, PointStore& store)
    : world_(world), points_(points), store_(store) {
    for (int rank = 1; rank < world.size(); ++rank) {
        senders_.emplace_back().rank = rank;
        listenTo(senders_.back());
    }
}

void IncomingTensors::listenTo(Sender& sender) {
    sender.arrival = world_.receive(sender.rank, kAnnouncementTag, std::as_writable_bytes(std::span(&sender.announced, 1)));
}

void IncomingTensors::takeArrived() {
    std::erase_if(senders_, [&](Sender& sender) { return sender.arrival.test() && !take(sender); });
}

void IncomingTensors::takeRest() {
    while (!senders_.empty()) {
        senders_.front().arrival.wait();
        if (!take(senders_.front())) senders_.pop_front();
        takeArrived();
    }
}

bool IncomingTensors::take(Sender& sender) {
    if (sender.announced == 0) return false;
    std::string text(sender.announced, '\0');
    world_.receive(sender.rank, kTensorsTag, std::as_writable_bytes(std::span(text))).wait();
    for (const Json& entry : Json::parse(text)) {
        const auto tensor = entry.at(0).get<std::string>();
        for (std::size_t point = 0; point < points_; ++point)
            receiveBytes(
                world_, sender.rank, kTensorsTag, entry.at(1).get<std::uint64_t>(),
                [&](std::uint64_t offset, std::span<const std::byte> part) { store_.write(point, tensor, offset, part); });
        store_.finish(tensor);
    }
    listenTo(sender);
    return true;
}

}  // namespace aimerge
