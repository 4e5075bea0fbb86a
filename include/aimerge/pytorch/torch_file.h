#pragma once
// What torch.save makes of a state dict: a zip archive in whose folder `data.pkl` names the tensors and `data/N` holds the
// bytes of storage N, uncompressed. So a tensor has its place in the file, like one of a safetensors file.
//
// A pickle is a program. The reader knows the few opcodes and classes that a state dict is made of; it looks nothing up,
// calls nothing, and refuses every other opcode and class by name.

#include "aimerge/safetensors/header_source.h"
#include "aimerge/safetensors/safetensors.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

/// The tensors in the order of their bytes. Two may have the same bytes: tied weights. CRC-32 is checked of data.pkl, where
/// torch has written it, and not of the tensors.
/// @throws InputError naming the file, and tensor, entry, opcode or class: no archive as torch.save writes it
/// (compressed, encrypted, split, cut short, of torch before 1.6); a pickle of anything but tensors by name; tensors that
/// are not contiguous, leave their storage or overlap; storages that are missing or belong to no tensor
std::vector<TensorInfo> readTorchFile(HeaderSource& source);

/// What makes safetensors of a model's or adapter's file that is not understood here; for messages.
std::string conversionCommand(const std::filesystem::path& file);

}  // namespace aimerge
