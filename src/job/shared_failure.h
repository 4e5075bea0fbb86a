#pragma once
// Failures that do not end the job: all ranks hear of them at the same place and go on with something else together.

#include "aimerge/core/error.h"
#include "aimerge/distributed/world.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace aimerge {

/// What an Error becomes: that of the job, or that of the piece of work alone.
enum class FailureScope { Job, Work };

/// Thrown on every rank after an Error on any of them.
class SharedFailure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Collective. Runs work that is local to each rank. @throws SharedFailure with the error of the lowest rank that has one;
/// Interrupted and PeerFailed pass
template <typename Work>
void shareFailures(World& world, const Work& work) {
    std::string own;
    try {
        work();
    } catch (const Interrupted&) {
        throw;
    } catch (const Error& error) {
        own = error.what();
    }
    std::string first;
    for (const std::string& message : world.gather(own))
        if (first.empty()) first = message;
    first = world.broadcast(std::move(first));
    if (!first.empty()) throw SharedFailure(first);
}

}  // namespace aimerge
