#pragma once
// CUDA devices, without CUDA's headers: what host code needs to run kernels. Built with AIMERGE_CUDA.

#include "merge/strided_walk.h"

#include <cstddef>
#include <span>
#include <string>

namespace aimerge {

/// Why no kernel can run here; empty when one can.
std::string whyNoDevice();

/// Memory of the current device.
class DeviceMemory {
public:
    /// @throws RuntimeFault when the device has no more
    explicit DeviceMemory(std::size_t bytes);
    explicit DeviceMemory(std::span<const std::byte> content);
    ~DeviceMemory();
    DeviceMemory(DeviceMemory&& other) noexcept;
    DeviceMemory& operator=(DeviceMemory&&) = delete;

    void* data() { return data_; }

    /// Waits for the kernels before it. @param out as long as the memory
    /// @throws RuntimeFault, also when one of those kernels failed
    void download(std::span<std::byte> out) const;

private:
    void* data_ = nullptr;
};

/// Runs the walk on the device, over a grid. Returns before it is done. Defined for the combines that a .cu file names, with
/// 1 to kMostUnrolledInputs inputs, whose coefficients travel by value. Pointers of a combine are to device memory.
/// @throws RuntimeFault when the kernel cannot be started
template <int kInputs, typename Combine>
void forEachElementOnDevice(const StridedWalk<kInputs, Combine>& walk);

}  // namespace aimerge
