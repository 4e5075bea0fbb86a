#pragma once
// A contiguous tensor's values as bytes, for messages and files.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>

namespace aimerge {

inline std::span<std::byte> bytesOf(const at::Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace aimerge
