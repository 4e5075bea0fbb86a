#pragma once
// In which order a stage receives, works and sends, whatever carries the messages. Every stage starts exchanges in the order
// of its steps; an exchange is over when both of its messages are, and the next begins after it, as on a GPU's stream. No
// stage then waits for one that waits for it: what a stage receives with an exchange was sent by an exchange that the stage
// before starts without anything from this one but steps further back.
//
// Link is a MessageLink (message_link.h): expect(step), pass(step), exchange(), finish().

#include <algorithm>
#include <cstdint>

namespace aimerge {

/// All layers in memory, step after step: while one is worked on, the next is received and the one before is sent.
/// @param work(step)
template <typename Link, typename Work>
void passStepByStep(Link& link, std::int64_t steps, const Work& work) {
    if (steps > 0) link.expect(0);
    link.exchange();
    for (std::int64_t step = 0; step < steps; ++step) {
        if (step + 1 < steps) link.expect(step + 1);
        link.exchange();
        work(step);
        link.pass(step);
    }
    link.finish();
}

/// One layer in memory: `group` steps at a time pass it before the next layer is loaded.
/// @param load(layer)
/// @param work(layer, step)
template <typename Link, typename Load, typename Work>
void passLayerByLayer(Link& link, std::int64_t steps, std::int64_t group, std::int64_t firstLayer, std::int64_t endLayer,
                      const Load& load, const Work& work) {
    for (std::int64_t first = 0; first < steps; first += group) {
        const std::int64_t end = std::min(first + group, steps);
        for (std::int64_t step = first; step < end; ++step) {
            link.expect(step);
            link.exchange();
        }
        for (std::int64_t layer = firstLayer; layer < endLayer; ++layer) {
            load(layer);
            for (std::int64_t step = first; step < end; ++step) {
                work(layer, step);
                if (layer + 1 < endLayer) continue;
                link.pass(step);
                link.exchange();
            }
        }
    }
    link.finish();
}

/// All steps at once, by stages that begin when the one before has done its work. It sends nothing earlier: what carries the
/// messages may wait for the receiver.
/// @param work() of all steps
template <typename Link, typename Work>
void passStageByStage(Link& link, std::int64_t steps, const Work& work) {
    for (std::int64_t step = 0; step < steps; ++step) {
        link.expect(step);
        link.exchange();
    }
    work();
    for (std::int64_t step = 0; step < steps; ++step) {
        link.pass(step);
        link.exchange();
    }
    link.finish();
}

}  // namespace aimerge
