#include "distributed/node_ranks.h"

#include "aimerge/core/process_limits.h"
#include "distributed/mpi_call.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace aimerge {
namespace {

/// A container may run on all processors of its machine and still have the time of a few.
int withinTimeLimit(double processors, int ranks) {
    constexpr double kRounding = 1e-9;  // of a sum of thirds
    const double limit = ControlGroups().processors().value_or(processors * ranks) / ranks;
    return std::max(1, static_cast<int>(std::floor(std::min(processors, limit) + kRounding)));
}

double shareOf(MPI_Comm node) {
    const std::vector<int> usable = usableProcessors();
    int processors = usable.back() + 1;
    checkMpi(MPI_Allreduce(MPI_IN_PLACE, &processors, 1, MPI_INT, MPI_MAX, node), "MPI_Allreduce of processors");
    std::vector<int> users(static_cast<std::size_t>(processors), 0);
    for (const int number : usable) users[static_cast<std::size_t>(number)] = 1;
    checkMpi(MPI_Allreduce(MPI_IN_PLACE, users.data(), processors, MPI_INT, MPI_SUM, node), "MPI_Allreduce of their users");
    double share = 0;
    for (const int number : usable) share += 1.0 / users[static_cast<std::size_t>(number)];
    return share;
}

}  // namespace

NodeRanks aloneOnThisMachine() {
    return {1, 0, withinTimeLimit(static_cast<double>(usableProcessors().size()), 1)};
}

NodeRanks ranksOfThisMachine() {
    MPI_Comm node = MPI_COMM_NULL;
    NodeRanks ranks;
    checkMpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
             "MPI_Comm_split_type(SHARED)");
    checkMpi(MPI_Comm_size(node, &ranks.count), "MPI_Comm_size of the node");
    checkMpi(MPI_Comm_rank(node, &ranks.own), "MPI_Comm_rank of the node");
    ranks.processors = withinTimeLimit(shareOf(node), ranks.count);
    checkMpi(MPI_Comm_free(&node), "MPI_Comm_free of the node");
    return ranks;
}

}  // namespace aimerge
