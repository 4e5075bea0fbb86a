#pragma once
// Models that the Hugging Face tools have downloaded to this machine. Nothing is ever downloaded here.
//     <cache>/models--org--name/refs/main            holds a commit hash
//     <cache>/models--org--name/snapshots/<hash>/    the model folder, its files being links

#include <filesystem>
#include <string>
#include <string_view>

namespace aimerge {

/// "org/name", or "name" alone as of the oldest models: letters, digits, '-', '_' and '.', as the hub allows.
bool isHubName(std::string_view name);

/// The snapshot of refs/main.
/// @param cache environment::hubCacheDirectory()
/// @pre isHubName(name)
/// @throws InputError with the download command when the model is not there, or only in part
std::filesystem::path findInHubCache(const std::string& name, const std::filesystem::path& cache);

}  // namespace aimerge
