#pragma once
// Float32 tensors as a safetensors file of the expert-statistics cache.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace aimerge {

/// Writes the file and syncs it. @pre contiguous float32 tensors on any device, at least one @throws RuntimeFault
void writeStatisticFile(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors);

}  // namespace aimerge
