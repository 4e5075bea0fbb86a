#pragma once

namespace aimerge {

/// Threads that libtorch's operations share out their work over.
void setTorchThreads(int threads);

}  // namespace aimerge
