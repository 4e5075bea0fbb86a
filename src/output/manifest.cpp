#include "aimerge/output/manifest.h"

#include "aimerge/core/error.h"
#include "aimerge/core/revision.h"
#include "aimerge/safetensors/tensor_digest.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

// The manifest's end: `"checksum": "<32 digits>"\n}\n`.
constexpr std::string_view kChecksumKey = "\"checksum\": \"", kEnd = "\"\n}\n";
constexpr std::size_t kDigestDigits = 32;
constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;

ordered_json modelJson(const ManifestModel& model) {
    return {{"name", model.name}, {"header_digest", model.headerDigest.hex()}, {"bytes", model.bytes}};
}

ordered_json fileJson(const ManifestFile& file) {
    ordered_json json = {{"bytes", file.bytes}, {"checksum", file.checksum.hex()}};
    if (!file.shard) return json;
    json["header"] = file.shard->header.hex();
    json["tensors"] = ordered_json::object();
    for (const auto& [name, digest] : file.shard->tensors) json["tensors"][name] = digest.hex();
    return json;
}

Digest digestFrom(const ordered_json& json) {
    const std::optional<Digest> digest = Digest::fromHex(json.get_ref<const std::string&>());
    if (!digest) throw std::invalid_argument("a digest must have 32 hexadecimal digits: " + json.dump());
    return *digest;
}

ManifestModel modelFrom(const ordered_json& json) {
    return {json.at("name"), digestFrom(json.at("header_digest")), json.at("bytes")};
}

ManifestFile fileFrom(const std::string& name, const ordered_json& json) {
    // A manifest must not lead the reader out of its folder.
    const std::filesystem::path path(name);
    const bool isWithin = !path.is_absolute() && path.has_filename() && path.filename() != "." && *path.begin() != ".." &&
                          path.lexically_normal().generic_string() == name;
    if (!isWithin) throw std::invalid_argument("not a file name: " + name);
    ManifestFile file{name, json.at("bytes"), digestFrom(json.at("checksum")), std::nullopt};
    if (!json.contains("tensors")) return file;
    file.shard.emplace();
    file.shard->header = digestFrom(json.at("header"));
    for (const auto& [tensor, digest] : json.at("tensors").items())
        file.shard->tensors.emplace_back(tensor, digestFrom(digest));
    return file;
}

Manifest manifestFrom(const ordered_json& json) {
    if (const int format = json.at("format"); format < 1 || format > revision::kManifest)
        throw std::invalid_argument(
            fmt::format("format is {}, this version of aimerge reads up to {}", format, revision::kManifest));
    Manifest manifest;
    manifest.version = json.at("aimerge");
    if (json.contains("revisions"))
        for (const auto& [kind, number] : json.at("revisions").items()) manifest.revisions[kind] = number;
    manifest.created = json.at("created");
    manifest.inputDigest = json.value("input_digest", "");
    manifest.method = json.at("method");
    if (json.contains("omega")) {
        const ordered_json& omega = json.at("omega");
        manifest.omegas = omega.is_array() ? omega.get<std::set<double>>() : std::set{omega.get<double>()};
    }
    for (const auto& [name, seed] : json.at("seeds").items()) manifest.seeds[name] = seed;
    if (json.contains("base")) manifest.base = modelFrom(json.at("base"));
    for (const ordered_json& expert : json.at("experts")) manifest.experts.push_back(modelFrom(expert));
    manifest.settings = json.at("settings");
    if (json.contains("coverage")) manifest.coverage = json.at("coverage");
    if (json.contains("featcal")) manifest.featcal = json.at("featcal");
    manifest.config = json.at("config");
    for (const auto& [name, file] : json.at("files").items()) manifest.files.push_back(fileFrom(name, file));
    return manifest;
}

/// @throws InputError unless the text ends in the checksum of what stands before it
void expectChecksum(const std::string& text, const std::string& fileName) {
    const std::size_t tail = kChecksumKey.size() + kDigestDigits + kEnd.size();
    if (text.size() > tail) {
        const std::string_view covered = std::string_view(text).substr(0, text.size() - tail);
        const std::string expected = std::string(kChecksumKey) + digestOf(covered).hex() + std::string(kEnd);
        if (text.ends_with(expected)) return;
    }
    throw InputError("{}: its own checksum does not fit: the file was changed or is damaged", fileName);
}

}  // namespace

Digest ShardDigests::checksum() const {
    Hasher hasher;
    hasher.update(std::as_bytes(std::span(header.bytes)));
    for (const auto& [name, digest] : tensors) hasher.update(std::as_bytes(std::span(digest.bytes)));
    return hasher.digest();
}

std::vector<ManifestFile> shardEntries(const ShardLayout& layout, const std::vector<FinishedTensor>& finished) {
    std::unordered_map<std::string, Digest> digests;
    for (const FinishedTensor& tensor : finished) digests.emplace(tensor.tensor, tensor.digest);

    std::vector<ManifestFile> entries;
    for (const OutputShard& shard : layout.shards) {
        ShardDigests parts{digestOf(shard.header), {}};
        for (const TensorInfo& tensor : shard.tensors) {
            const auto digest = digests.find(tensor.name);
            if (digest == digests.end()) throw RuntimeFault("{}: tensor {} was not written", shard.fileName, tensor.name);
            parts.tensors.emplace_back(tensor.name, digest->second);
        }
        const Digest checksum = parts.checksum();
        entries.push_back({shard.fileName, shard.fileBytes, checksum, std::move(parts)});
    }
    return entries;
}

ManifestFile fileEntry(const std::filesystem::path& folder, const std::string& name) {
    const File file = File::openForReading(folder / name);
    const std::uint64_t bytes = file.size();
    Hasher hasher;
    std::vector<std::byte> buffer(std::min<std::uint64_t>(bytes, kReadBytes));
    for (std::uint64_t done = 0; done < bytes;) {
        const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), bytes - done));
        file.readAt(done, piece);
        hasher.update(piece);
        done += piece.size();
    }
    return {name, bytes, hasher.digest(), std::nullopt};
}

ordered_json valuesJson(const std::set<double>& values) {
    if (values.size() == 1) return *values.begin();
    return values;
}

std::string manifestText(const Manifest& manifest) {
    ordered_json json;
    json["format"] = revision::kManifest;
    json["aimerge"] = manifest.version;
    if (!manifest.revisions.empty()) json["revisions"] = manifest.revisions;
    json["created"] = manifest.created;
    json["input_digest"] = manifest.inputDigest;
    json["method"] = manifest.method;
    if (!manifest.omegas.empty()) json["omega"] = valuesJson(manifest.omegas);
    json["seeds"] = manifest.seeds;
    if (manifest.base) json["base"] = modelJson(*manifest.base);
    json["experts"] = ordered_json::array();
    for (const ManifestModel& expert : manifest.experts) json["experts"].push_back(modelJson(expert));
    json["settings"] = manifest.settings;
    if (!manifest.coverage.is_null()) json["coverage"] = manifest.coverage;
    if (!manifest.featcal.is_null()) json["featcal"] = manifest.featcal;
    json["config"] = manifest.config;
    json["files"] = ordered_json::object();
    for (const ManifestFile& file : manifest.files) json["files"][file.name] = fileJson(file);

    // The config's text may hold bytes that are not UTF-8 in a comment; that must not cost the finished merge.
    std::string text = json.dump(2, ' ', false, ordered_json::error_handler_t::replace);
    text.resize(text.size() - 2);  // the final "\n}"
    text += ",\n  ";
    return text + std::string(kChecksumKey) + digestOf(text).hex() + std::string(kEnd);
}

void writeManifest(const std::filesystem::path& folder, const Manifest& manifest) {
    writeTextFile(folder / kManifestFileName, manifestText(manifest));
}

Manifest parseManifest(const std::string& text, const std::string& fileName) {
    expectChecksum(text, fileName);
    try {
        return manifestFrom(ordered_json::parse(text));
    } catch (const nlohmann::json::exception& error) {
        throw InputError("{}: not a manifest that aimerge understands: {}", fileName, error.what());
    } catch (const std::invalid_argument& error) {
        throw InputError("{}: not a manifest that aimerge understands: {}", fileName, error.what());
    }
}

}  // namespace aimerge
