#pragma once
// How a polling loop waits: it looks again at once while an answer is likely, then sleeps ever longer, so that waiting ranks
// leave the CPUs to working ones; and it knows when its time is over.

#include <chrono>

namespace aimerge {

class Patience {
public:
    explicit Patience(double seconds);

    /// Sleeps, or only yields in the first 100 microseconds; never longer than half a millisecond.
    void pause();
    /// True when the time is over and a few more looks have found nothing: a process that was itself stopped finds its time
    /// over before it has read what the others sent meanwhile.
    bool exhausted();
    /// At most this long from now on.
    void shortenTo(double seconds);
    double seconds() const { return seconds_; }  // as given to the constructor

private:
    using Clock = std::chrono::steady_clock;

    double seconds_;
    Clock::time_point start_, deadline_;
    std::chrono::microseconds sleep_;
    int looksAfterDeadline_ = 0;
};

}  // namespace aimerge
