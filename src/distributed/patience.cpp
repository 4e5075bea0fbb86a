#include "aimerge/distributed/patience.h"

#include <algorithm>
#include <thread>

namespace aimerge {
namespace {

using namespace std::chrono_literals;

constexpr auto kYieldingTime = 100us;
constexpr std::chrono::microseconds kFirstSleep = 20us;
constexpr std::chrono::microseconds kLongestSleep = 500us;
constexpr int kLooksAfterDeadline = 10;

std::chrono::steady_clock::duration durationOf(double seconds) {
    return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

Patience::Patience(double seconds)
    : seconds_(seconds), start_(Clock::now()), deadline_(start_ + durationOf(seconds)), sleep_(kFirstSleep) {}

void Patience::pause() {
    if (Clock::now() - start_ < kYieldingTime) {
        std::this_thread::yield();
        return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(2 * sleep_, kLongestSleep);
}

bool Patience::exhausted() {
    return Clock::now() >= deadline_ && ++looksAfterDeadline_ > kLooksAfterDeadline;
}

void Patience::shortenTo(double seconds) {
    deadline_ = std::min(deadline_, Clock::now() + durationOf(seconds));
}

}  // namespace aimerge
