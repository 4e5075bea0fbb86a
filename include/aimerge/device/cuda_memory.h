#pragma once
// Owners of CUDA's memory and streams, without CUDA's headers. Built with AIMERGE_CUDA. Everything is of the calling
// thread's current device.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct CUstream_st;

namespace aimerge {

/// Memory that Release gives back; what both kinds have in common.
template <typename Release>
class CudaBuffer {
public:
    CudaBuffer() = default;

    std::byte* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    template <typename Element>
    Element* as() const {
        return static_cast<Element*>(static_cast<void*>(data_.get()));
    }

protected:
    CudaBuffer(void* data, std::size_t bytes) : data_(static_cast<std::byte*>(data)), size_(bytes) {}

private:
    std::unique_ptr<std::byte, Release> data_;
    std::size_t size_ = 0;
};

struct ReleaseOnDevice {
    void operator()(std::byte* data) const;
};
struct ReleasePinned {
    void operator()(std::byte* data) const;
};

/// Memory of the device.
class DeviceMemory : public CudaBuffer<ReleaseOnDevice> {
public:
    DeviceMemory() = default;
    /// @throws RuntimeFault when the device has no more
    explicit DeviceMemory(std::size_t bytes);
    explicit DeviceMemory(std::span<const std::byte> content);

    /// Waits for the kernels before it. @param out at most as long as the memory
    /// @throws RuntimeFault, also when one of those kernels failed
    void download(std::span<std::byte> out) const;
};

/// Memory of the host that the device copies from and to without the CPU, and that kernels may write to.
class PinnedMemory : public CudaBuffer<ReleasePinned> {
public:
    PinnedMemory() = default;
    /// @throws RuntimeFault
    explicit PinnedMemory(std::size_t bytes);
};

/// Looks at how much of the current device's memory is in use, and remembers the most. @return that
/// @throws RuntimeFault
std::uint64_t lookAtDeviceMemory();

/// Equal numbers of bytes on both sides.
struct StagedMemory {
    PinnedMemory host;
    DeviceMemory device;

    /// Has room for so many bytes afterwards; what was there is lost when it had not.
    void reserve(std::size_t bytes);
};

/// A queue of copies and kernels, in order among themselves alone.
class CudaStream {
public:
    CudaStream();

    CUstream_st* handle() const { return stream_.get(); }

    /// Start copies; the host's side is pinned and stays until they are done.
    void upload(std::span<const std::byte> from, std::byte* to) const;
    void download(const std::byte* from, std::span<std::byte> to) const;
    /// Waits for everything in the queue. @throws RuntimeFault, also when one of the kernels failed
    void wait() const;

private:
    struct Release {
        void operator()(CUstream_st* stream) const;
    };
    std::unique_ptr<CUstream_st, Release> stream_;
};

}  // namespace aimerge
