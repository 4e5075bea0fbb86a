#include "aimerge/calibration/torch_threads.h"

#include <ATen/Parallel.h>

#include <mutex>

namespace aimerge {

void setTorchThreads(int threads) {
    static std::once_flag once;  // libtorch takes the number of inter-op threads once per process
    std::call_once(once, [] { at::set_num_interop_threads(1); });
    at::set_num_threads(threads);
}

}  // namespace aimerge
