#pragma once
// aimerge_manifest.json: what made a checkpoint folder and the checksum of everything in it, computed while writing.
//
// Checksums (XXH3-128, 32 hex digits):
//   a tensor        safetensors/tensor_digest.h
//   a shard         of its header's digest (first 8 bytes, JSON, padding) followed by its tensors' digests in file order, 16
//   bytes each other files     of all their bytes: what `xxh128sum` prints the manifest    of all its bytes before the key
//   "checksum", its last
// So any changed bit in the folder is found, and a damaged shard names the tensor.

#include "aimerge/core/hash.h"
#include "aimerge/output/journal.h"
#include "aimerge/safetensors/shard_layout.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace aimerge {

inline constexpr const char* kManifestFileName = "aimerge_manifest.json";

/// What a shard's checksum is made of.
struct ShardDigests {
    Digest header;
    std::vector<std::pair<std::string, Digest>> tensors;  // in file order

    Digest checksum() const;
    bool operator==(const ShardDigests&) const = default;
};

struct ManifestFile {
    std::string name;
    std::uint64_t bytes = 0;
    Digest checksum;
    std::optional<ShardDigests> shard;  // of *.safetensors

    bool operator==(const ManifestFile&) const = default;
};

/// A model that was read.
struct ManifestModel {
    std::string name;         // as the user wrote it
    Digest headerDigest;      // Checkpoint::headerDigest()
    std::uint64_t bytes = 0;  // of its tensors

    bool operator==(const ManifestModel&) const = default;
};

struct Manifest {
    std::string version;                   // of aimerge
    std::map<std::string, int> revisions;  // of what the values are made of (core/revision.h); empty in older manifests
    std::string created;                   // utcTimeText()
    std::string inputDigest;  // hex, of what was asked for and the state of the inputs; empty in those of older versions
    std::string method;
    std::set<double> omegas;  // of its tensors, most often one; empty without AIM
    std::map<std::string, std::uint64_t> seeds;
    std::optional<ManifestModel> base;
    std::vector<ManifestModel> experts;
    nlohmann::ordered_json settings =
        nlohmann::ordered_json::object();  // what else decided the bytes: weights, densities, ...
    nlohmann::ordered_json coverage = {};  // of AIM: Coverage::json(); null without
    nlohmann::ordered_json featcal = {};   // what feature calibration fitted, and to what; null without
    std::string config;                    // the YAML text
    std::vector<ManifestFile> files;       // all but the manifest itself
};

/// One entry per shard. @throws RuntimeFault naming the tensor when one of the layout was not finished
std::vector<ManifestFile> shardEntries(const ShardLayout& layout, const std::vector<FinishedTensor>& finished);

/// A number, or for a value that differs between tensors (a gradient, a filter) the list of those that occur.
nlohmann::ordered_json valuesJson(const std::set<double>& values);

/// Entry of a file that lies in the folder already, such as the statistics log; reads it. Not for shards.
ManifestFile fileEntry(const std::filesystem::path& folder, const std::string& name);

std::string manifestText(const Manifest& manifest);
void writeManifest(const std::filesystem::path& folder, const Manifest& manifest);

/// @throws InputError naming the file: the checksum does not fit the text, or the text is not a manifest of this format
Manifest parseManifest(const std::string& text, const std::string& fileName);

}  // namespace aimerge
