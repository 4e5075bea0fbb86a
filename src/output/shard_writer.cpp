#include "aimerge/output/shard_writer.h"

#include "aimerge/core/error.h"
#include "aimerge/core/read_ahead.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace aimerge {
namespace {

void expectWholeBlocks(const TensorInfo& tensor, std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t end = offset + bytes, tensorBytes = tensor.bytes.size();
    const bool whole = offset % kDigestBlockBytes == 0 && (end % kDigestBlockBytes == 0 || end == tensorBytes);
    if (!whole || end > tensorBytes) {
        throw std::logic_error(fmt::format("ShardWriter: bytes {}-{} of {} ({} bytes) are not whole blocks", offset, end,
                                           tensor.name, tensorBytes));
    }
}

}  // namespace

void ShardWriter::createFiles(const std::filesystem::path& checkpointFolder, const ShardLayout& layout) {
    std::error_code error;
    std::filesystem::create_directories(checkpointFolder, error);
    if (error) throw RuntimeFault("cannot create the folder {}: {}", checkpointFolder.string(), error.message());
    for (const OutputShard& shard : layout.shards) {
        File file = File::openForWriting(checkpointFolder / shard.fileName);
        file.resize(shard.fileBytes);
        file.writeAt(0, std::as_bytes(std::span(shard.header)));
    }
}

ShardWriter::ShardWriter(const std::filesystem::path& buildFolder, std::string folder, const ShardLayout& layout,
                         Journal& journal)
    : checkpointFolder_(folder.empty() ? buildFolder : buildFolder / folder),
      folder_(std::move(folder)),
      layout_(layout),
      journal_(journal) {
    for (const OutputShard& shard : layout.shards) {
        files_.push_back(std::make_unique<LazyFile>());
        for (const TensorInfo& tensor : shard.tensors) {
            const std::size_t blocks = static_cast<std::size_t>(digestBlocks(tensor.bytes.size()));
            tensors_.emplace(tensor.name, Tensor{&tensor, std::vector<Digest>(blocks), std::vector<std::uint8_t>(blocks)});
        }
    }
}

void ShardWriter::adopt(std::span<const FinishedTensor> claims, ThreadPool& threads, std::uint64_t readAheadBytes) {
    std::map<std::size_t, File> files;  // by their number
    std::vector<std::pair<const FinishedTensor*, const TensorInfo*>> ours;
    std::vector<PieceAhead> pieces;
    for (const FinishedTensor& claim : claims) {
        const auto found = tensors_.find(claim.tensor);
        if (claim.folder != folder_ || found == tensors_.end()) continue;
        const TensorInfo& info = *found->second.info;
        const auto [file, isNew] = files.try_emplace(info.fileIndex);
        if (isNew) file->second = File::openForReading(checkpointFolder_ / layout_.shards[info.fileIndex].fileName);
        ours.emplace_back(&claim, &info);
        addPieces(pieces, file->second, info.bytes, Reading::Once);
    }
    const ReadAhead ahead(std::move(pieces), readAheadBytes);
    threads.forEach(ours.size(), [&](std::size_t i, int) {
        const auto& [claim, info] = ours[i];
        if (tensorDigest(files.at(info->fileIndex), info->bytes) == claim->digest) remember(claim->tensor, claim->digest);
    });
}

void ShardWriter::write(const std::string& tensor, std::uint64_t offset, std::span<const std::byte> bytes) {
    Tensor& target = tensorOf(tensor);
    expectWholeBlocks(*target.info, offset, bytes.size());
    if (bytes.empty()) return;

    File& file = fileOf(*target.info);
    const std::uint64_t position = target.info->bytes.begin + offset;
    for (std::uint64_t done = 0; done < bytes.size(); done += kDigestBlockBytes) {
        const auto block = bytes.subspan(done, std::min<std::uint64_t>(kDigestBlockBytes, bytes.size() - done));
        const auto index = static_cast<std::size_t>((offset + done) / kDigestBlockBytes);
        target.blocks[index] = digestOf(block);
        file.writeAt(position + done, block);
        target.written[index] = 1;
    }
    file.startWriteback({position, position + bytes.size()});
}

void ShardWriter::finishTensor(const std::string& tensor) {
    const Tensor& finished = tensorOf(tensor);
    if (std::find(finished.written.begin(), finished.written.end(), 0) != finished.written.end()) {
        throw std::logic_error("ShardWriter: finished with blocks missing: " + tensor);
    }
    const Digest digest = combineBlockDigests(finished.blocks);
    remember(tensor, digest);
    journal_.record({folder_, tensor, digest});
}

std::vector<FinishedTensor> ShardWriter::finished() const {
    const std::scoped_lock lock(finishedMutex_);
    std::vector<FinishedTensor> tensors;
    for (const auto& [name, digest] : finished_) tensors.push_back({folder_, name, digest});
    return tensors;
}

void ShardWriter::sync() {
    for (const std::unique_ptr<LazyFile>& lazy : files_) {
        if (lazy->file.descriptor() >= 0) lazy->file.sync();
    }
}

ShardWriter::Tensor& ShardWriter::tensorOf(const std::string& name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::logic_error("ShardWriter: the layout has no tensor " + name);
    return found->second;
}

File& ShardWriter::fileOf(const TensorInfo& tensor) {
    LazyFile& lazy = *files_[tensor.fileIndex];
    std::call_once(lazy.once,
                   [&] { lazy.file = File::openForWriting(checkpointFolder_ / layout_.shards[tensor.fileIndex].fileName); });
    return lazy.file;
}

void ShardWriter::remember(const std::string& tensor, const Digest& digest) {
    const std::scoped_lock lock(finishedMutex_);
    finished_[tensor] = digest;
}

}  // namespace aimerge
