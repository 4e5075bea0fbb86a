#pragma once
// Hidden states between GPUs, by NCCL on a stream of its own. Built with AIMERGE_CUDA.

#include "aimerge/calibration/hidden_transport.h"

namespace aimerge {

/// Collective. The ranks that run layers form a communicator; made once per process and set of ranks. A failure of NCCL, or
/// no progress within AIMERGE_COLLECTIVE_TIMEOUT, ends a wait with an exception, and the communicator with it.
/// @throws RuntimeFault, PeerFailed
std::unique_ptr<HiddenTransport> openNcclTransport(World& world, const Stage& stage);

}  // namespace aimerge
