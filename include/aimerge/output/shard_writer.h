#pragma once
// Writes the tensors of one checkpoint at their planned places, from any thread of any rank in any order, and digests them
// on the way while their bytes are in cache. Every rank has a writer of its own for the same files.
//
//     rank 0:     ShardWriter::createFiles(...)                       then a barrier
//     any rank:   writer.adopt(...) for its share of readJournals()   tensors that an earlier run has finished
//                 writer.write(...) ... writer.finishTensor(...)      for the others it owns
//                 writer.sync()                                       then a barrier, and rank 0 publishes

#include "aimerge/core/thread_pool.h"
#include "aimerge/output/journal.h"
#include "aimerge/safetensors/shard_layout.h"
#include "aimerge/safetensors/tensor_digest.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace aimerge {

class ShardWriter {
public:
    /// write() takes multiples of this, counted from the tensor's first byte.
    static constexpr std::uint64_t kDigestBlockBytes = aimerge::kDigestBlockBytes;

    /// Creates the shard files with their sizes and headers. Data that an earlier run of the same job wrote stays.
    static void createFiles(const std::filesystem::path& checkpointFolder, const ShardLayout& layout);

    /// @param buildFolder OutputFolder::buildFolder(); @param folder the checkpoint's folder below it, "" or "omega-0.4"
    /// @param layout, journal must outlive the writer
    ShardWriter(const std::filesystem::path& buildFolder, std::string folder, const ShardLayout& layout, Journal& journal);

    /// Re-reads tensors that an earlier run says it finished: those of this folder that have the digest count as finished.
    /// The others must be written again, as must claims of tensors that the layout does not have.
    /// @param readAheadBytes of memory, for reading ahead
    void adopt(std::span<const FinishedTensor> claims, ThreadPool& threads, std::uint64_t readAheadBytes);

    /// Writes bytes [offset, offset + bytes.size()) of the tensor's data and starts their way to the disk. Thread-safe for
    /// different bytes.
    /// @pre offset is a multiple of kDigestBlockBytes, and so is bytes.size() unless the tensor ends there
    /// @throws RuntimeFault
    void write(const std::string& tensor, std::uint64_t offset, std::span<const std::byte> bytes);

    /// Enters the tensor into the journal. Thread-safe.
    /// @pre every byte of it was written by this writer, and those calls have returned
    void finishTensor(const std::string& tensor);

    /// What this writer has finished or adopted, sorted by name: the manifest needs it from all ranks (journalText()).
    std::vector<FinishedTensor> finished() const;

    /// Waits until everything this rank wrote is on disk.
    void sync();

private:
    struct Tensor {
        const TensorInfo* info = nullptr;
        std::vector<Digest> blocks;
        std::vector<std::uint8_t> written;  // per block; bytes, so that threads may set neighbours
    };

    Tensor& tensorOf(const std::string& name);
    File& fileOf(const TensorInfo& tensor);
    void remember(const std::string& tensor, const Digest& digest);

    struct LazyFile {
        std::once_flag once;
        File file;
    };

    std::filesystem::path checkpointFolder_;
    std::string folder_;
    const ShardLayout& layout_;
    Journal& journal_;
    std::unordered_map<std::string, Tensor> tensors_;
    std::vector<std::unique_ptr<LazyFile>> files_;  // opened by the first write: a rank touches few of the shards
    mutable std::mutex finishedMutex_;
    std::map<std::string, Digest> finished_;
};

}  // namespace aimerge
