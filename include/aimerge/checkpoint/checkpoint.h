#pragma once
// A Hugging Face model folder opened for reading: config.json, the headers of its weight files (safetensors, or
// pytorch_model.bin), and byte ranges of tensors on demand. Opening reads headers only, and a head that is stored although
// it is tied. Reading is local, thread-safe and allocates nothing.
//
// A base model with an adapter is a checkpoint, too: parameters that the adapter stores in full are the adapter's, and
// those that it changes stand as in the base, with updateOf() saying what is to be added. So read() and map() give the bytes
// of the base; merge/tensor_source.h gives the values of the adapted model.

#include "aimerge/architecture/architecture.h"
#include "aimerge/architecture/model_config.h"
#include "aimerge/checkpoint/weight_header.h"
#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/read_ahead.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace aimerge {

// adapter.h has them; most that open checkpoints look at no adapter.
struct Adapter;
struct AdaptedName;
struct LowRankUpdate;
struct TokenRows;
struct MergedValues;
using ParameterUpdate = std::variant<LowRankUpdate, TokenRows, MergedValues>;

/// Where a model or an adapter lies that the user names by its folder or as `org/name` of the local hub cache.
/// @throws InputError when it is not there (gives the download command)
std::filesystem::path modelFolder(const std::string& name);

/// What the weight files have of a head that config.json ties to the embeddings.
enum class TiedHead {
    NotStored,
    Equal,     // the embedding once more: it is left out of the tensors
    Different  // it stays, and the config then says that it is not tied, which is how transformers loads such files
};

class Checkpoint : public WeightSource {
public:
    /// @param name a folder, or `org/name` looked up in the local hub cache (HF_HOME rules, refs/main); or BASE+ADAPTER,
    ///        each of them one of these
    /// @throws InputError: no such folder or cached model (gives the download command), no weights, bad index
    ///         (missing shard, tensor absent from its shard, path outside the folder), bad header, bad config.json; what
    ///         readAdapter() throws, an adapter that does not fit the base, an adapter alone
    static Checkpoint open(const std::string& name);

    /// As open(), where `name` may also be an adapter alone, which is applied to `base`.
    /// @param base empty: there is none
    static Checkpoint openOver(const std::string& base, const std::string& name);

    const std::string& name() const override { return name_; }       // as the user wrote it
    const std::filesystem::path& folder() const { return folder_; }  // of the base model, where there is an adapter
    const std::filesystem::path& tokenizerFolder() const;            // the adapter's when it has a tokenizer, else folder()
    bool isAdapted() const { return adapter_ != nullptr; }
    const nlohmann::ordered_json& config() const { return config_; }  // config.json, as far as the weights agree with it
    const ModelConfig& modelConfig() const override { return modelConfig_; }
    const std::vector<std::filesystem::path>& files() const { return paths_; }
    TiedHead tiedHead() const { return tiedHead_; }

    /// What its files say about its structure.
    const Architecture& architecture() const { return architecture_; }

    /// In model order: embeddings, layers 0..n-1, final norm, head, then the rest by name.
    const std::vector<TensorInfo>& tensors() const { return tensors_; }
    const TensorInfo* find(std::string_view name) const override;

    /// How the adapter changes a tensor of tensors(); null when it does not. Its tensors can be given to read().
    const ParameterUpdate* updateOf(const TensorInfo& tensor) const;

    /// Copies bytes [offset, offset + out.size()) of the tensor's data.
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;

    void startReading(const TensorInfo& tensor) const override;

    /// Where the tensor's data lie, for a ReadAhead.
    std::vector<PieceAhead> piecesOf(const TensorInfo& tensor, Reading reading) const;

    std::uint64_t totalBytes() const;  // of all tensors

    /// Names, sizes and modification times of the weight files, and the digest of an adapter's config. They stay the same in
    /// a copy that keeps times, and another model may have them too, where all files of an archive have one time.
    std::string fileStamps() const;

    /// fileStamps(), and of every file its canonical path, inode and change time, which no program can set: equal stamps
    /// mean that these are the same files and nothing was written to them since. New rights or links change them too.
    std::string identityStamps() const;

    /// @throws InputError when a weight file was written to or cut since it was opened, going by size, modification time and
    /// header: what was read of it may be neither the old model nor the new one. A file that another took the place of is
    /// read on as it was.
    void requireUnchanged() const;

    /// Digest of every tensor's name, dtype, shape and bytes, whatever the sharding, and of an adapter's factors and
    /// scaling. Reads the whole checkpoint once.
    Digest contentDigest(ThreadPool& threads) const;

    /// Calls the tensors as another model of the same layers does, where the names differ by known prefixes alone: those
    /// that versions of transformers and other tools put before them, and those of a text model within a multimodal one.
    /// Says so. Leaves names as they are where that does not bring all of them together.
    void takeNamesOf(const Checkpoint& reference);

    /// Where config.json and every weight file are, and a digest of size, header and 64 places spread over the file.
    /// Files with equal digests are the same for all practical purposes: what fine-tuning changed, a place shows. Takes
    /// milliseconds.
    std::vector<std::pair<std::filesystem::path, Digest>> fileSamples() const;

    /// Digest of config.json, of the headers, and of an adapter's config; cheap.
    Digest headerDigest() const;

private:
    static Checkpoint openNamed(const std::string& name);
    static Checkpoint openModel(const std::string& name, const std::filesystem::path& folder);
    static Checkpoint openAdapted(const std::string& name, const AdaptedName& parts);

    /// What torch.compile and DataParallel put before all names of a model that they wrap is no part of the model: names are
    /// taken without it, with a notice.
    void dropWrapper();
    /// Likewise what wrapped modules within the model have before their parts.
    void dropInnerWrappers();

    /// One parameter has one tensor: see TiedHead.
    void settleTiedHead();

    /// Opens a weight file for reading. @return its tensors, with the number of the file
    std::vector<TensorInfo> addFile(const std::filesystem::path& path);

    /// Says that a model's folder has an adapter, which others apply when they load it.
    void noteAdapterBeside() const;

    /// Makes this the model with the adapter. @throws InputError when it does not fit
    void apply(Adapter adapter);
    void takeFiles(Adapter& adapter);
    bool isHeadTied() const;
    /// A tied head that the adapter has again, with the embedding's own values, is left out.
    void leaveOutTiedHead(Adapter& adapter) const;
    /// PEFT writes names as they are in memory: they become the file's, where known prefixes alone tell them apart.
    void takeNames(Adapter& adapter) const;
    /// As PEFT does: a model that ties its head to the embeddings gets one of its own when the adapter stores either in
    /// full; the head is then the base's embeddings until it is replaced.
    void untieHead(const Adapter& adapter);
    void replaceTensor(TensorInfo replacement, const Adapter& adapter);
    const TensorInfo& requireTarget(const std::string& parameter, const ParameterUpdate& update,
                                    const Adapter& adapter) const;
    void checkFactors(const TensorInfo& target, const LowRankUpdate& update, const Adapter& adapter) const;
    void checkTokens(const TensorInfo& target, const TokenRows& update, const Adapter& adapter) const;
    void checkSavedModules(const Adapter& adapter) const;

    /// The tensors that the adapter's updates read, each once.
    std::map<std::string_view, const TensorInfo*> adapterTensors() const;

    /// What the tensors of this file are called in ModelConfig::decoder.
    void nameDecoder();

    /// Sorts tensors_ and fills byName_. @throws InputError when a name occurs twice
    void indexTensors();

    std::string name_;
    std::filesystem::path folder_;
    nlohmann::ordered_json config_;
    ModelConfig modelConfig_;
    Architecture architecture_;
    std::vector<std::filesystem::path> paths_;
    std::vector<File> files_;
    std::vector<std::string> stamps_;   // of files_, when they were opened
    std::vector<HeaderParts> headers_;  // likewise
    std::vector<TensorInfo> tensors_;
    TiedHead tiedHead_ = TiedHead::NotStored;
    std::unordered_map<std::string_view, std::size_t>
        byName_;                        // views into tensors_, whose heap block moves with the object
    std::shared_ptr<Adapter> adapter_;  // null: none; shared, as a unique_ptr needs the whole type
};

}  // namespace aimerge
