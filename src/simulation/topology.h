#pragma once
// Which of a machine's shared parts a rank's reading, writing and sending take.

#include "aimerge/simulation/machine.h"
#include "simulation/events.h"

#include <vector>

namespace aimerge {

class Topology {
public:
    /// Ranks fill node after node. @param simulation gets the machine's resources
    Topology(const Machine& machine, EventSimulation& simulation);

    std::vector<Demand> reading(int rank, double bytes) const;
    std::vector<Demand> writing(int rank, double bytes) const;
    /// A message. @param use of who waits for it
    Move sending(int from, int to, double bytes, TimeUse use) const;

private:
    struct Node {
        std::size_t read = 0, write = 0, in = 0, out = 0;
    };
    const Node& nodeOf(int rank) const { return nodes_.at(static_cast<std::size_t>(rank / machine_.ranksPerNode)); }

    Machine machine_;
    std::vector<Node> nodes_;
    std::size_t readOfAll_ = 0, writeOfAll_ = 0;
};

}  // namespace aimerge
