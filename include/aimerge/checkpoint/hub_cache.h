#pragma once
// Models that the Hugging Face tools have downloaded to this machine. Nothing is ever downloaded here.
//     <cache>/models--org--name/refs/<revision>      holds a commit hash; main where no revision is asked for
//     <cache>/models--org--name/snapshots/<hash>/    the model folder, its files being links

#include <filesystem>
#include <string>
#include <string_view>

namespace aimerge {

/// A model of the hub as the user names it: "org/name" or "org/name@revision".
struct HubReference {
    std::string name;
    std::string revision;  // a branch, a tag or a commit hash; "main" where none is written

    static HubReference from(std::string_view text);
};

/// "org/name", or "name" alone as of the oldest models: letters, digits, '-', '_' and '.', as the hub allows.
bool isHubName(std::string_view name);

/// The snapshot that the revision names, or is.
/// @param cache environment::hubCacheDirectory()
/// @pre isHubName(reference.name)
/// @throws InputError with the download command when the model is not there, or only in part
std::filesystem::path findInHubCache(const HubReference& reference, const std::filesystem::path& cache);

/// @throws InputError when a file of a model that loaders would read is a link to nothing, as a cut download or a cleaned
/// cache leaves it; with the download command where the folder is a snapshot of the cache
void refuseDanglingLinks(const std::filesystem::path& folder);

}  // namespace aimerge
