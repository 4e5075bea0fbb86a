#include "aimerge/core/progress.h"

#include "aimerge/core/size_text.h"
#include "aimerge/core/standard_streams.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace aimerge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kLineInterval{10};
constexpr std::chrono::seconds kRecently{30};
constexpr int kBarCells = 20;

ProgressListener resolved(ProgressListener listener) {
    if (listener.mode == ProgressMode::Auto)
        listener.mode = ::isatty(STDERR_FILENO) == 1 ? ProgressMode::Bar : ProgressMode::Plain;
    return listener;
}

double secondsBetween(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

std::string progressLine(const ProgressState& state) {
    const double fraction =
        state.total == 0 ? 1.0 : std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
    std::string line =
        fmt::format("{:<8} {}/{} {}   {:.0f}%", state.phase, state.done, state.total, state.items, 100 * fraction);
    const bool byBytes = state.totalBytes > 0, byRecent = state.recentSeconds > 0 && !state.last;
    const double seconds = byRecent ? state.recentSeconds : state.seconds;
    const auto bytesDone = static_cast<double>(byRecent ? state.recentBytes : state.doneBytes);
    if (byBytes) {
        const ByteUnit unit = byteUnitFor(state.totalBytes);
        line += fmt::format("   {:.1f} of {:.1f} {}", static_cast<double>(state.doneBytes) / unit.bytes,
                            static_cast<double>(state.totalBytes) / unit.bytes, unit.name);
        if (seconds > 0) {
            const double rate = bytesDone / seconds;
            const ByteUnit rateUnit = byteUnitFor(static_cast<std::uint64_t>(rate));
            line += fmt::format("   {:.1f} {}/s", rate / rateUnit.bytes, rateUnit.name);
        }
    }
    if (state.last) return line + fmt::format("   took {}", formatSeconds(state.seconds));
    const double total = static_cast<double>(byBytes ? state.totalBytes : state.total),
                 done = std::min(total, static_cast<double>(byBytes ? state.doneBytes : state.done)),
                 work = byBytes ? bytesDone : static_cast<double>(byRecent ? state.recentDone : state.done);
    if (work > 0) line += fmt::format("   left {}", formatSeconds(seconds * (total - done) / work));
    return line;
}

Progress::Progress(ProgressListener listener, std::string phase, std::string items, std::uint64_t total,
                   std::uint64_t totalBytes)
    : listener_(resolved(std::move(listener))),
      phase_(std::move(phase)),
      items_(std::move(items)),
      total_(total),
      totalBytes_(totalBytes),
      start_(Clock::now()),
      lastPrint_(start_),
      samples_{{start_, 0, 0}} {}

// A phase that ends by an exception leaves the cursor on a line of its own, and claims nothing.
Progress::~Progress() {
    if (!finished_ && listener_.mode == ProgressMode::Bar) std::fputc('\n', stderr);
}

void Progress::advance(std::uint64_t items, std::uint64_t bytes) {
    if (!listener_.hears()) return;
    const std::lock_guard lock(mutex_);
    done_ += items;
    doneBytes_ += bytes;
    const Clock::duration interval =
        listener_.mode == ProgressMode::Plain ? Clock::duration(kLineInterval) : Clock::duration(kBarInterval);
    if (!finished_ && Clock::now() - lastPrint_ >= interval) tell(false);
}

void Progress::finish() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(finished_, true) || !listener_.hears()) return;
    tell(true);
}

/// The last one that is older than a while, or the first; takes a sample of now.
const Progress::Sample& Progress::sampleBefore(Clock::time_point now) {
    if (now - samples_.back().time >= std::chrono::seconds(1)) samples_.push_back({now, done_, doneBytes_});
    while (samples_.size() > 1 && now - samples_[1].time >= kRecently) samples_.pop_front();
    return samples_.front();
}

void Progress::tell(bool last) {
    lastPrint_ = Clock::now();
    const Sample& before = sampleBefore(lastPrint_);
    const ProgressState state{.phase = phase_,
                              .items = items_,
                              .done = done_,
                              .total = total_,
                              .doneBytes = doneBytes_,
                              .totalBytes = totalBytes_,
                              .seconds = secondsBetween(start_, lastPrint_),
                              .last = last,
                              .recentDone = done_ - before.done,
                              .recentBytes = doneBytes_ - before.bytes,
                              .recentSeconds = secondsBetween(before.time, lastPrint_)};
    if (listener_.call) return listener_.call(state);
    const std::string line = progressLine(state);
    if (listener_.mode == ProgressMode::Plain) {
        tellUser("{}\n", line);
        return;
    }
    const auto filled = total_ == 0 ? kBarCells : static_cast<int>(std::min(done_, total_) * kBarCells / total_);
    tellUser("\r[{:#<{}}{: <{}}] {}\x1b[K{}", "", filled, "", kBarCells - filled, line, last ? "\n" : "");
    std::fflush(stderr);
}

}  // namespace aimerge
