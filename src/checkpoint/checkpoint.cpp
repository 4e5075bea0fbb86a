#include "aimerge/checkpoint/checkpoint.h"

#include "aimerge/checkpoint/adapter.h"
#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/checkpoint/peft_merge.h"
#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/python_json.h"
#include "aimerge/safetensors/strict_json.h"
#include "aimerge/safetensors/tensor_digest.h"
#include "aimerge/safetensors/weight_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <tuple>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

nlohmann::ordered_json readConfig(const fs::path& folder) {
    const fs::path path = folder / "config.json";
    if (!fs::exists(path))
        throw InputError("{}: has no config.json, expected the folder of a Hugging Face model", folder.string());
    return parseStrictJson<nlohmann::ordered_json>(readTextFile(path), path.string());
}

/// Each tensor of the index must lie in the shard that the index says. Loaders take tensors that it does not mention, too.
void checkAgainstIndex(const WeightFiles& weights, const std::vector<TensorInfo>& tensors) {
    std::unordered_map<std::string_view, std::size_t> fileOf;
    for (const TensorInfo& tensor : tensors) fileOf.emplace(tensor.name, tensor.fileIndex);
    for (const auto& [name, shard] : weights.weightMap) {
        const auto file = fileOf.find(name);
        if (file != fileOf.end() && weights.paths[file->second].filename() == shard) continue;
        const std::string elsewhere =
            file == fileOf.end() ? "no shard has it" : "it is in " + weights.paths[file->second].filename().string();
        throw InputError("{}: tensor {} is not in {}, as {} says ({}); fetch shards and index again", weights.index.string(),
                         name, shard, weights.index.filename().string(), elsewhere);
    }
    const auto isUnlisted = [&](const TensorInfo& tensor) { return !weights.weightMap.contains(tensor.name); };
    if (const auto count = std::count_if(tensors.begin(), tensors.end(), isUnlisted); count > 0)
        spdlog::warn("{}: does not list {} tensors of its shards ({}, ...); they are read, as loaders do",
                     weights.index.string(), count, std::find_if(tensors.begin(), tensors.end(), isUnlisted)->name);
}

struct stat statusOf(const File& file) {
    struct stat status {};
    if (::fstat(file.descriptor(), &status) != 0)
        throw InputError("{}: cannot be examined: {}", file.path().string(), std::generic_category().message(errno));
    return status;
}

std::string stampOf(const File& file) {
    const struct stat status = statusOf(file);
    return fmt::format("{} {} {}.{:09}\n", file.path().filename().string(), status.st_size, status.st_mtim.tv_sec,
                       status.st_mtim.tv_nsec);
}

std::string adapterConfigText(const Adapter& adapter) {
    return adapter.config.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
}

/// What an update does with its tensors.
std::string describe(const ParameterUpdate& update) {
    if (const auto* rows = std::get_if<TokenRows>(&update)) return fmt::format(" tokens {}", fmt::join(rows->tokens, " "));
    if (std::holds_alternative<MergedValues>(update)) return " merged";
    const auto& factors = std::get<LowRankUpdate>(update);
    std::string text = fmt::format(" {:a} {}", factors.scaling, factors.transposed);
    if (factors.magnitude) text += " magnitude";
    if (factors.experts > 1)
        text += fmt::format(" {} of {} experts, from {}", factors.expert.value_or(-1), factors.experts, factors.firstOutput);
    if (factors.firstInput > 0) text += fmt::format(" and {}", factors.firstInput);
    return text;
}

void hashDescription(const TensorInfo& tensor, Hasher& hasher) {
    hasher.updateField(tensor.name).updateField(safetensorsName(tensor.dtype)).updateField(shapeText(tensor.shape));
}

}  // namespace

fs::path modelFolder(const std::string& name) {
    std::error_code error;
    const fs::file_status status = fs::status(name, error);
    if (fs::is_directory(status)) return name;
    if (fs::exists(status)) throw InputError("{}: is a file, expected the folder of a model", name);
    if (status.type() == fs::file_type::none) throw InputError("{}: cannot be examined: {}", name, error.message());
    const HubReference reference = HubReference::from(name);
    if (isHubName(reference.name)) return findInHubCache(reference, environment::hubCacheDirectory());
    throw InputError("{}: no such folder; give a model's folder, or a hub name such as org/name", name);
}

Checkpoint Checkpoint::open(const std::string& name) {
    Checkpoint result = openNamed(name);
    if (!result.isAdapted()) result.noteAdapterBeside();
    return result;
}

Checkpoint Checkpoint::openNamed(const std::string& name) {
    if (const auto parts = splitAdaptedName(name)) return openAdapted(name, *parts);
    const fs::path folder = modelFolder(name);
    if (isAdapterFolder(folder))
        throw InputError(
            "{0}: is an adapter (adapter_config.json), not a whole model; write BASE+{0} with the model it is for", name);
    return openModel(name, folder);
}

Checkpoint Checkpoint::openOver(const std::string& base, const std::string& name) {
    if (base.empty() || splitAdaptedName(name) || !isAdapterFolder(modelFolder(name))) return open(name);
    return openAdapted(name, {base, name});
}

Checkpoint Checkpoint::openAdapted(const std::string& name, const AdaptedName& parts) {
    Checkpoint result = openNamed(parts.base);
    if (result.isAdapted())
        throw InputError("{}: is for {}, which has an adapter already; merge that one into its base first", name,
                         parts.base);
    fs::path folder = modelFolder(parts.adapter);
    refuseDanglingLinks(folder);
    std::error_code ignored;
    if (!fs::equivalent(folder, result.folder_, ignored)) result.noteAdapterBeside();
    if (isMergedByPeft(folder)) folder = mergedByPeft(result, folder);
    result.name_ = name;
    Adapter adapter = readAdapter(folder);
    const auto lastPart = [](const std::string& path) { return path.substr(path.find_last_of('/') + 1); };
    if (!adapter.trainedOn.empty() && lastPart(adapter.trainedOn) != lastPart(parts.base))
        spdlog::info("{}: names the base model {}; it is applied to {}", adapter.configFile, adapter.trainedOn, parts.base);
    result.apply(std::move(adapter));
    return result;
}

void Checkpoint::noteAdapterBeside() const {
    if (holdsAdapter(folder_))
        spdlog::warn(
            "{0}: has an adapter (adapter_config.json) beside its weights. transformers with PEFT applies it when it "
            "loads the folder; here it is not applied. Write {0}+{0} to apply it",
            name_);
}

Checkpoint Checkpoint::openModel(const std::string& name, const fs::path& folder) {
    refuseDanglingLinks(folder);
    Checkpoint result;
    result.name_ = name;
    result.folder_ = folder;
    result.config_ = readConfig(result.folder_);
    result.modelConfig_ = parseModelConfig(result.config_, (result.folder_ / "config.json").string());

    const WeightFiles weights = findWeightFiles(result.folder_);
    for (const fs::path& path : weights.paths) {
        std::vector<TensorInfo> tensors = result.addFile(path);
        std::ranges::move(tensors, std::back_inserter(result.tensors_));
    }
    if (result.tensors_.empty()) throw InputError("{}: its weight files hold no tensors", result.folder_.string());
    result.indexTensors();

    if (!weights.weightMap.empty()) checkAgainstIndex(weights, result.tensors_);
    result.dropWrapper();
    result.dropInnerWrappers();
    const std::uint64_t namedBytes = result.totalBytes();
    result.settleTiedHead();
    result.nameDecoder();
    const std::uint64_t totalBytes = result.totalBytes();  // versions of transformers count a tied head once or twice
    if (weights.totalSize >= 0 && weights.totalSize != static_cast<double>(totalBytes) &&
        weights.totalSize != static_cast<double>(namedBytes))
        spdlog::warn("{}: metadata.total_size is {:.0f}, the tensors have {} bytes", weights.index.string(),
                     weights.totalSize, totalBytes);
    return result;
}

void Checkpoint::nameDecoder() {
    if (!modelConfig_.decoder || architecture_.stacks().empty()) return;
    constexpr std::string_view kWeight = ".weight";
    std::string head = architecture_.head() == architecture_.embedding() ? "" : architecture_.head();
    if (head.ends_with(kWeight)) head.resize(head.size() - kWeight.size());
    modelConfig_.decoder->takeNames(architecture_.stacks().front().prefix, architecture_.embedding(), head);
}

std::vector<TensorInfo> Checkpoint::addFile(const fs::path& path) {
    const std::size_t number = files_.size();
    paths_.push_back(path);
    files_.push_back(File::openForReading(path));
    stamps_.push_back(stampOf(files_.back()));
    WeightHeader header = readWeightHeader(files_.back());
    headers_.push_back(std::move(header.parts));
    for (TensorInfo& tensor : header.tensors) tensor.fileIndex = number;
    return std::move(header.tensors);
}

void Checkpoint::indexTensors() {
    byName_.clear();
    architecture_ = Architecture(config_, tensors_);
    architecture_.sortInModelOrder(tensors_, [](const TensorInfo& tensor) { return std::string_view(tensor.name); });
    byName_.reserve(tensors_.size());
    for (std::size_t index = 0; index < tensors_.size(); ++index) {
        const auto [other, isNew] = byName_.emplace(tensors_[index].name, index);
        if (!isNew)
            throw InputError("{}: tensor {} is in both {} and {}", folder_.string(), tensors_[index].name,
                             paths_[tensors_[other->second].fileIndex].filename().string(),
                             paths_[tensors_[index].fileIndex].filename().string());
    }
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
    const auto entry = byName_.find(name);
    return entry == byName_.end() ? nullptr : &tensors_[entry->second];
}

void Checkpoint::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
    if (offset > tensor.bytes.size() || out.size() > tensor.bytes.size() - offset)
        throw std::out_of_range(
            fmt::format("{}: bytes {}+{} of a tensor that has {}", tensor.name, offset, out.size(), tensor.bytes.size()));
    files_.at(tensor.fileIndex).readAt(tensor.bytes.begin + offset, out);
}

void Checkpoint::startReading(const TensorInfo& tensor) const {
    files_.at(tensor.fileIndex).startReading(tensor.bytes);
}

std::vector<PieceAhead> Checkpoint::piecesOf(const TensorInfo& tensor, Reading reading) const {
    std::vector<PieceAhead> pieces;
    addPieces(pieces, files_.at(tensor.fileIndex), tensor.bytes, reading);
    return pieces;
}

std::uint64_t Checkpoint::totalBytes() const {
    std::uint64_t total = 0;
    for (const TensorInfo& tensor : tensors_) total += tensor.bytes.size();
    return total;
}

std::string Checkpoint::fileStamps() const {
    std::string stamps;
    for (const File& file : files_) stamps += stampOf(file);
    if (adapter_) stamps += digestOf(adapterConfigText(*adapter_)).hex() + "\n";
    return stamps;
}

std::vector<std::pair<fs::path, Digest>> Checkpoint::fileSamples() const {
    constexpr std::uint64_t kPlaces = 64, kBytes = 64;
    std::vector<std::pair<fs::path, Digest>> samples{{folder_ / "config.json", digestOf(dumpPythonJson(config_, -1))}};
    for (std::size_t i = 0; i < files_.size(); ++i) {
        const std::uint64_t size = files_[i].size();
        Hasher hasher;
        hasher.updateField(std::to_string(size)).updateField(headers_[i].digest.hex());
        std::array<std::byte, kBytes> bytes;
        for (std::uint64_t place = 0; place < kPlaces && size >= kBytes; ++place) {
            files_[i].readAt((size - kBytes) / kPlaces * place + (size - kBytes) / (2 * kPlaces), bytes);
            hasher.update(bytes);
        }
        samples.emplace_back(paths_[i], hasher.digest());
    }
    return samples;
}

std::string Checkpoint::identityStamps() const {
    std::string stamps = fileStamps();
    for (const File& file : files_) {
        const struct stat status = statusOf(file);
        stamps += fmt::format("{} {} {}.{:09}\n", std::filesystem::weakly_canonical(file.path()).string(), status.st_ino,
                              status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
    }
    return stamps;
}

void Checkpoint::requireUnchanged() const {
    for (std::size_t i = 0; i < files_.size(); ++i) {
        if (stampOf(files_[i]) != stamps_[i] || !headers_[i].areIn(files_[i]))
            throw InputError("{}: was written to while it was read; run the same command again when nothing changes it",
                             paths_[i].string());
    }
}

std::map<std::string_view, const TensorInfo*> Checkpoint::adapterTensors() const {
    std::map<std::string_view, const TensorInfo*> tensors;
    if (adapter_)
        for (const auto& [parameter, update] : adapter_->updates)
            for (const TensorInfo* tensor : tensorsOf(update)) tensors.emplace(tensor->name, tensor);
    return tensors;
}

Digest Checkpoint::contentDigest(ThreadPool& threads) const {
    // One list of blocks for all tensors, in the order of the files: large and small tensors share the threads evenly.
    std::vector<const TensorInfo*> tensors;
    for (const TensorInfo& tensor : tensors_) tensors.push_back(&tensor);
    for (const auto& [name, tensor] : adapterTensors()) tensors.push_back(tensor);
    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo* a, const TensorInfo* b) {
        return std::tie(a->fileIndex, a->bytes.begin) < std::tie(b->fileIndex, b->bytes.begin);
    });
    struct Block {
        std::size_t fileIndex;
        ByteRange bytes;
    };
    std::vector<Block> blocks;
    std::unordered_map<std::string_view, std::size_t> firstBlock;
    for (const TensorInfo* tensor : tensors) {
        firstBlock.emplace(tensor->name, blocks.size());
        for (std::uint64_t begin = tensor->bytes.begin; begin < tensor->bytes.end; begin += kDigestBlockBytes)
            blocks.push_back({tensor->fileIndex, {begin, std::min(begin + kDigestBlockBytes, tensor->bytes.end)}});
    }
    std::vector<PieceAhead> pieces;  // they stay in the page cache: who asks for the digest reads the weights next
    for (const Block& block : blocks) pieces.push_back({&files_[block.fileIndex], block.bytes, Reading::Repeated});
    const ReadAhead ahead(std::move(pieces), kReadAheadBytes);
    std::vector<Digest> digests(blocks.size());
    threads.forEach(blocks.size(), [&](std::size_t index, int) {
        digests[index] = blockDigest(files_[blocks[index].fileIndex], blocks[index].bytes);
    });

    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
    Hasher hasher;
    for (const TensorInfo* tensor : tensors) {
        hashDescription(*tensor, hasher);
        const auto parts =
            std::span<const Digest>(digests).subspan(firstBlock.at(tensor->name), digestBlocks(tensor->bytes.size()));
        const Digest digest = combineBlockDigests(parts);
        hasher.update(std::as_bytes(std::span(digest.bytes)));
    }
    if (adapter_)
        for (const auto& [parameter, update] : adapter_->updates) hasher.updateField(parameter + describe(update));
    return hasher.digest();
}

Digest Checkpoint::headerDigest() const {
    Hasher hasher;
    hasher.updateField(config_.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace));
    const auto add = [&](const TensorInfo& tensor) {
        hashDescription(tensor, hasher);
        hasher.updateField(paths_[tensor.fileIndex].filename().string());
        hasher.updateField(fmt::format("{}-{}", tensor.bytes.begin, tensor.bytes.end));
    };
    for (const TensorInfo& tensor : tensors_) add(tensor);
    if (adapter_) {
        hasher.updateField(adapterConfigText(*adapter_));
        for (const auto& [name, tensor] : adapterTensors()) add(*tensor);
    }
    return hasher.digest();
}

}  // namespace aimerge
