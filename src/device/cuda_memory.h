#pragma once
// Owners of CUDA's memory, streams and events, without CUDA's headers. Built with AIMERGE_CUDA. Everything is of the calling
// thread's current device.

#include <cstddef>
#include <span>

struct CUstream_st;
struct CUevent_st;

namespace aimerge {

/// Memory of the device.
class DeviceMemory {
public:
    DeviceMemory() = default;
    /// @throws RuntimeFault when the device has no more
    explicit DeviceMemory(std::size_t bytes);
    explicit DeviceMemory(std::span<const std::byte> content);
    ~DeviceMemory();
    DeviceMemory(DeviceMemory&& other) noexcept;
    DeviceMemory& operator=(DeviceMemory&& other) noexcept;

    std::byte* data() const { return static_cast<std::byte*>(data_); }
    std::size_t size() const { return size_; }

    /// Waits for the kernels before it. @param out at most as long as the memory
    /// @throws RuntimeFault, also when one of those kernels failed
    void download(std::span<std::byte> out) const;

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Memory of the host that the device copies from and to without the processor, and that kernels may write to.
class PinnedMemory {
public:
    PinnedMemory() = default;
    /// @throws RuntimeFault
    explicit PinnedMemory(std::size_t bytes);
    ~PinnedMemory();
    PinnedMemory(PinnedMemory&& other) noexcept;
    PinnedMemory& operator=(PinnedMemory&& other) noexcept;

    std::byte* data() const { return static_cast<std::byte*>(data_); }
    std::size_t size() const { return size_; }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// A queue of copies and kernels, in order among themselves alone.
class CudaStream {
public:
    CudaStream();
    ~CudaStream();
    CudaStream(CudaStream&& other) noexcept;
    CudaStream& operator=(CudaStream&&) = delete;

    CUstream_st* handle() const { return stream_; }

    /// Start copies; the host's side is pinned and stays until they are done.
    void upload(std::span<const std::byte> from, std::byte* to) const;
    void download(const std::byte* from, std::span<std::byte> to) const;
    /// Waits for everything in the queue. @throws RuntimeFault, also when one of the kernels failed
    void wait() const;

private:
    CUstream_st* stream_ = nullptr;
};

}  // namespace aimerge
