#include "aimerge/output/verify.h"

#include "aimerge/core/error.h"
#include "aimerge/core/python_json.h"
#include "aimerge/core/read_ahead.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/output/manifest.h"
#include "aimerge/output/side_files.h"
#include "aimerge/safetensors/safetensors.h"
#include "aimerge/safetensors/tensor_digest.h"
#include "output/consistency.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kRemedy = "merge again, or copy the file again from where it was made";

bool isShardName(const std::string& name) {
    return name.ends_with(".safetensors");
}

std::vector<std::string> namesIn(const fs::path& folder) {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// One checkpoint folder being verified. Findings are entered relative to it.
class Verification {
public:
    Verification(const fs::path& folder, ThreadPool& threads)
        : folder_(folder), threads_(threads), names_(namesIn(folder)) {}

    VerifyReport run() {
        if (const std::optional<Manifest> manifest = readManifest()) {
            checkListedFiles(*manifest);
            checkUnlistedFiles(*manifest);
            checkIndexFile();
            checkConfigFile();
        } else {
            checkAllHeaders();
            checkIndexFile();
        }
        return std::move(report_);
    }

private:
    bool has(const std::string& name) const {
        if (name.find('/') != std::string::npos) return fs::is_regular_file(folder_ / name);
        return std::binary_search(names_.begin(), names_.end(), name);
    }

    void add(const std::string& file, const std::string& fault) {
        report_.findings.push_back({file, "", std::nullopt, fmt::format("{}: {}", file, fault)});
    }

    void addTensor(const std::string& file, const std::string& tensor, const std::string& fault) {
        report_.findings.push_back({file, tensor, std::nullopt, fmt::format("{}: tensor {}: {}", file, tensor, fault)});
    }

    /// For errors of the readers, whose text names the file with its path.
    void addError(const std::string& file, const InputError& error) {
        report_.findings.push_back({file, "", std::nullopt, error.what()});
    }

    void addAll(std::vector<Finding> findings) { std::ranges::move(findings, std::back_inserter(report_.findings)); }

    std::optional<Manifest> readManifest() {
        if (!has(kManifestFileName)) {
            report_.notices.push_back(
                fmt::format("no {}: contents cannot be checked, only the format and the index", kManifestFileName));
            return std::nullopt;
        }
        try {
            const std::string text = readTextFile(folder_ / kManifestFileName);
            Manifest manifest = parseManifest(text, (folder_ / kManifestFileName).string());
            ++report_.files;
            report_.bytes += text.size();
            return manifest;
        } catch (const InputError& error) {
            addError(kManifestFileName, error);
            return std::nullopt;
        }
    }

    void checkListedFiles(const Manifest& manifest) {
        for (const ManifestFile& file : manifest.files) {
            if (!fs::exists(folder_ / file.name)) {
                add(file.name, fmt::format("is missing; {}", kRemedy));
                continue;
            }
            ++report_.files;
            try {
                checkListedFile(file);
            } catch (const InputError& error) {
                addError(file.name, error);
            }
        }
    }

    void checkListedFile(const ManifestFile& file) {
        const File opened = File::openForReading(folder_ / file.name);
        if (opened.size() != file.bytes) {
            add(file.name, fmt::format("has {} bytes, the manifest says {}; {}", opened.size(), file.bytes, kRemedy));
        }
        if (file.shard) {
            checkShard(file, opened);
        } else if (opened.size() == file.bytes) {
            report_.bytes += file.bytes;
            if (fileEntry(folder_, file.name).checksum == file.checksum) return;
            add(file.name, fmt::format("contents differ from what was written; {}", kRemedy));
        }
    }

    void checkShard(const ManifestFile& file, const File& opened) {
        const SafetensorsHeader& header = headers_[file.name] = readSafetensorsHeader(folder_ / file.name);
        std::vector<std::byte> headerBytes(header.dataBegin);
        opened.readAt(0, headerBytes);
        report_.bytes += headerBytes.size();
        if (digestOf(headerBytes) != file.shard->header) {
            add(file.name,
                fmt::format("the header (bytes 0-{}) differs from what was written; {}", header.dataBegin, kRemedy));
            report_.findings.back().bytes = ByteRange{0, header.dataBegin};
        }
        if (file.shard->checksum() != file.checksum)
            add(file.name, "the manifest's checksum does not follow from its digests");

        const std::map<std::string, Digest> expected(file.shard->tensors.begin(), file.shard->tensors.end());
        checkTensors(file.name, opened, header.tensors, expected);
        std::set<std::string> present;
        for (const TensorInfo& tensor : header.tensors) present.insert(tensor.name);
        for (const auto& [name, digest] : expected) {
            if (!present.contains(name)) addTensor(file.name, name, fmt::format("is missing; {}", kRemedy));
        }
    }

    void checkTensors(const std::string& file, const File& opened, const std::vector<TensorInfo>& tensors,
                      const std::map<std::string, Digest>& expected) {
        std::vector<std::string> faults(tensors.size());
        std::vector<PieceAhead> pieces;
        for (const TensorInfo& tensor : tensors) addPieces(pieces, opened, tensor.bytes, Reading::Once);
        const ReadAhead ahead(std::move(pieces), kReadAheadBytes);
        threads_.forEach(tensors.size(), [&](std::size_t index, int) {
            const auto digest = expected.find(tensors[index].name);
            if (digest == expected.end()) {
                faults[index] = "is not in the manifest";
            } else if (tensorDigest(opened, tensors[index].bytes) != digest->second) {
                faults[index] = "contents differ from what was written";
            }
        });
        for (std::size_t index = 0; index < tensors.size(); ++index) {
            const auto& [begin, end] = tensors[index].bytes;
            ++report_.tensors;
            report_.bytes += end - begin;
            if (faults[index].empty()) continue;
            addTensor(file, tensors[index].name,
                      fmt::format("{} (bytes {}-{} of the file); {}", faults[index], begin, end, kRemedy));
            report_.findings.back().bytes = tensors[index].bytes;
        }
    }

    void checkUnlistedFiles(const Manifest& manifest) {
        std::set<std::string> listed{kManifestFileName}, folders;
        for (const ManifestFile& file : manifest.files) {
            listed.insert(file.name);
            if (const std::size_t slash = file.name.find('/'); slash != std::string::npos)
                folders.insert(file.name.substr(0, slash));
        }
        for (const std::string& name : names_) {
            if (folders.contains(name)) {
                for (const std::string& within : filesWithin(name))
                    if (!listed.contains(within)) addUnlisted(within);
            } else if (listed.contains(name)) {
                continue;
            } else if (isShardName(name)) {
                add(name, "does not belong to this checkpoint, but loaders would read it; remove it");
            } else {
                addUnlisted(name);
            }
        }
    }

    void addUnlisted(const std::string& name) {
        report_.notices.push_back(fmt::format("{}: was not written with this checkpoint and is not checked", name));
    }

    /// Sorted, with the folder's name before theirs.
    std::vector<std::string> filesWithin(const std::string& name) const {
        std::vector<std::string> files;
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_ / name))
            if (!entry.is_directory()) files.push_back(entry.path().lexically_relative(folder_).generic_string());
        std::ranges::sort(files);
        return files;
    }

    void checkAllHeaders() {
        for (const std::string& name : names_) {
            if (!isShardName(name)) continue;
            ++report_.files;
            try {
                headers_[name] = readSafetensorsHeader(folder_ / name);
                report_.tensors += headers_[name].tensors.size();
            } catch (const InputError& error) {
                addError(name, error);
            }
        }
    }

    /// Loaders that find model.safetensors look for no index, whatever lies beside it.
    void checkIndexFile() {
        if (has(kIndexFileName)) {
            const auto index = readJson(kIndexFileName);
            if (!index.is_discarded()) addAll(checkIndex(index, names_, headers_));
        } else if (headers_.size() > 1 && !has("model.safetensors")) {
            add(kIndexFileName, fmt::format("is missing, and there are {} files of weights", headers_.size()));
        }
    }

    void checkConfigFile() {
        if (!has(kConfigFileName)) return;
        const auto config = readJson(kConfigFileName);
        if (config.is_object()) addAll(checkTiedEmbeddings(config, headers_));
    }

    /// Discarded, with a finding, when it cannot be read or is not JSON.
    nlohmann::json readJson(const std::string& name) {
        try {
            auto json = nlohmann::json::parse(quoteNonFinite(readTextFile(folder_ / name)), nullptr, false);
            if (json.is_discarded()) add(name, fmt::format("is not valid JSON; {}", kRemedy));
            return json;
        } catch (const InputError& error) {
            addError(name, error);
            return nlohmann::json(nlohmann::json::value_t::discarded);
        }
    }

    const fs::path folder_;
    ThreadPool& threads_;
    std::vector<std::string> names_;  // sorted
    ShardHeaders headers_;
    VerifyReport report_;
};

bool isCheckpoint(const fs::path& folder) {
    return std::ranges::any_of(namesIn(folder), [](const std::string& name) {
        return name == kManifestFileName || name == kIndexFileName || isShardName(name);
    });
}

void addPart(VerifyReport& whole, const std::string& name, VerifyReport part) {
    for (Finding& finding : part.findings) {
        finding.file.insert(0, name + "/");
        finding.text.insert(0, name + ": ");
        whole.findings.push_back(std::move(finding));
    }
    for (const std::string& notice : part.notices) whole.notices.push_back(fmt::format("{}: {}", name, notice));
    whole.files += part.files;
    whole.tensors += part.tensors;
    whole.bytes += part.bytes;
}

}  // namespace

VerifyReport verify(const fs::path& folder, int threads) {
    if (!fs::is_directory(folder)) throw InputError("{}: no such folder", folder.string());
    ThreadPool pool(threads);
    if (isCheckpoint(folder)) return Verification(folder, pool).run();

    VerifyReport report;
    bool any = false;
    for (const std::string& name : namesIn(folder)) {
        if (!name.starts_with("omega-") || !fs::is_directory(folder / name)) continue;
        any = true;
        addPart(report, name, Verification(folder / name, pool).run());
    }
    if (!any)
        throw InputError("{}: holds no checkpoint: no safetensors files and no {}", folder.string(), kManifestFileName);
    return report;
}

}  // namespace aimerge
