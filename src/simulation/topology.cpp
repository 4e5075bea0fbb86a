#include "simulation/topology.h"

namespace aimerge {

Topology::Topology(const Machine& machine, EventSimulation& simulation) : machine_(machine) {
    for (int node = 0; node < machine.nodes; ++node)
        nodes_.push_back({.read = simulation.addResource(machine.nodeReadBytesPerSecond),
                          .write = simulation.addResource(machine.nodeWriteBytesPerSecond),
                          .in = simulation.addResource(machine.nodeBytesPerSecond),
                          .out = simulation.addResource(machine.nodeBytesPerSecond)});
    readOfAll_ = simulation.addResource(machine.readBytesPerSecond);
    writeOfAll_ = simulation.addResource(machine.writeBytesPerSecond);
}

std::vector<Demand> Topology::reading(int rank, double bytes) const {
    return {{nodeOf(rank).read, bytes, TimeUse::Reading}, {readOfAll_, bytes, TimeUse::Reading}};
}

std::vector<Demand> Topology::writing(int rank, double bytes) const {
    return {{nodeOf(rank).write, bytes, TimeUse::Writing}, {writeOfAll_, bytes, TimeUse::Writing}};
}

Move Topology::sending(int from, int to, double bytes, TimeUse use) const {
    Move move{.demands = {}, .leastSeconds = 0, .use = use, .latency = machine_.latencySeconds};
    const Node &source = nodeOf(from), &target = nodeOf(to);
    if (&source == &target)
        move.leastSeconds = bytes / machine_.messageBytesPerSecond;
    else
        move.demands = {{source.out, bytes, use}, {target.in, bytes, use}};
    return move;
}

}  // namespace aimerge
