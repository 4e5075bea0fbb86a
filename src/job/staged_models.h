#pragma once
// --io scatter: models for ranks that do not see their files. Rank 0 alone reads. Every other rank gets folders of its own
// with the same files, of which the weights are holes at first and are filled with what the rank needs; so whatever opens a
// checkpoint works as ever. The folders lie in environment::scratchDirectory() and lose their names as soon as the models
// are open: however the process ends, nothing is left.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/temporary_folder.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {

/// A tensor of a checkpoint that was opened by the name that StagedModels gives.
struct StagedTensor {
    const Checkpoint* model = nullptr;
    const TensorInfo* tensor = nullptr;
};

/// What the last stage of a pass runs behind its layers.
enum class PassEnd { Norm, Head };

/// What each rank of a pass runs: its layers, at the ends the embedding and the final norm, and the head where it is wanted,
/// which may be tied to the embedding.
std::vector<std::vector<StagedTensor>> weightsOfStages(const Checkpoint& base, const Plan& plan,
                                                       PassEnd end = PassEnd::Norm);

class StagedModels {
public:
    /// Collective. What names a model (also BASE+ADAPTER) is looked up on rank 0; the other ranks' names are ignored.
    /// @throws InputError what Checkpoint::open() throws for a name; RuntimeFault when a rank's disk has no room
    StagedModels(World& world, const std::set<std::string>& names);

    /// By what name this rank opens the model; on rank 0 by the same. Names that were not staged stay as they are.
    std::string nameHere(const std::string& name) const;

    /// The models are open: this rank's folders are needed no more.
    void dropNames() { folder_.reset(); }

    /// Collective. Rank 0 reads and sends; afterwards every rank can read these tensors. What it was sent before is not sent
    /// again. @param ofRanks on rank 0: for each rank, from the models as rank 0 has opened them
    void fill(World& world, const std::vector<std::vector<StagedTensor>>& ofRanks);

private:
    struct StagedFile {
        std::filesystem::path path;  // of the original on rank 0, of its likeness elsewhere
        File file;                   // open for reading on rank 0, for writing elsewhere; of weights
    };
    /// Part of a file that travels.
    struct Stretch {
        std::size_t file = 0;
        ByteRange bytes;
    };

    void describe(const std::set<std::string>& names);
    void stageFolder(World& world, std::size_t number);
    void sendTo(World& world, int rank, const std::vector<StagedTensor>& tensors);
    void receive(World& world);

    std::optional<TemporaryFolder> folder_;
    std::vector<std::filesystem::path> folders_;                            // of the parts of names, on rank 0
    std::map<std::string, std::vector<std::size_t>> partsOf_;               // a name's folders
    std::vector<StagedFile> weights_;                                       // the same numbers on every rank
    std::set<std::pair<int, std::pair<std::size_t, std::uint64_t>>> sent_;  // rank, file, first byte; on rank 0
};

}  // namespace aimerge
