#include "job/staged_models.h"

#include "aimerge/safetensors/weight_files.h"

#include "aimerge/checkpoint/adapter.h"
#include "aimerge/checkpoint/peft_merge.h"
#include "aimerge/checkpoint/weight_header.h"
#include "aimerge/core/error.h"
#include "aimerge/core/python_json.h"
#include "aimerge/core/read_ahead.h"
#include "aimerge/distributed/byte_stream.h"
#include "aimerge/safetensors/header_source.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kWeightsTag = 21;

/// Files of a model folder that only other programs read; they may be as large as the model.
bool isForeign(const fs::path& file) {
    constexpr std::array kExtensions{".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"};
    return std::ranges::find(kExtensions, file.extension().string()) != kExtensions.end();
}

struct Listed {
    std::string name;
    std::uint64_t bytes = 0;
    std::vector<ByteRange> head;  // what is sent at once: of weights the header, else everything
    bool isWeights = false;       // of which the rest is holes at first
};

std::vector<Listed> list(const fs::path& folder) {
    const bool isAdapter = isAdapterFolder(folder);  // has a few MB, which are sent whole
    const std::vector<fs::path> weights = isAdapter ? std::vector<fs::path>() : findWeightFiles(folder).paths;
    std::vector<Listed> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const fs::path& path = entry.path();
        const bool isWeights = std::ranges::find(weights, path) != weights.end();
        const bool isOfAdapter = isAdapter && path.stem() == "adapter_model";
        if (!entry.is_regular_file() || (isForeign(path) && !isWeights && !isOfAdapter)) continue;
        const std::uint64_t bytes = entry.file_size();
        std::vector<ByteRange> head{{0, bytes}};
        if (isWeights) head = readWeightHeader(File::openForReading(path)).parts.ranges;
        files.push_back({path.filename().string(), bytes, std::move(head), isWeights});
    }
    std::ranges::sort(files, {}, &Listed::name);
    return files;
}

std::string toText(const std::vector<Listed>& files) {
    Json json = Json::array();
    for (const Listed& file : files) {
        Json head = Json::array();
        for (const ByteRange& range : file.head) head.push_back({range.begin, range.end});
        json.push_back({file.name, file.bytes, head, file.isWeights});
    }
    return json.dump();
}

std::vector<Listed> listFrom(const std::string& text) {
    std::vector<Listed> files;
    for (const Json& file : Json::parse(text)) {
        Listed& listed = files.emplace_back();
        listed.name = file.at(0), listed.bytes = file.at(1), listed.isWeights = file.at(3);
        for (const Json& range : file.at(2)) listed.head.push_back({range.at(0), range.at(1)});
    }
    return files;
}

std::string partsOf(const File& file, const std::vector<ByteRange>& ranges) {
    HeaderSource source(file);
    std::string parts;
    for (const ByteRange& range : ranges) parts += source.read(range.begin, range.size());
    return parts;
}

void writeParts(std::string_view parts, const std::vector<ByteRange>& ranges, File& file) {
    for (const ByteRange& range : ranges) {
        file.writeAt(range.begin, std::as_bytes(std::span(parts.substr(0, range.size()))));
        parts.remove_prefix(range.size());
    }
}

/// What config.json becomes where a tied head differs from the embedding: the other ranks, for whom both are holes, cannot
/// see that. Empty: it stays as it is.
std::string untiedConfig(const fs::path& folder) {
    if (isAdapterFolder(folder) || !fs::exists(folder / "config.json")) return "";
    if (!isTied(parsePythonJson<nlohmann::ordered_json>(readTextFile(folder / "config.json")))) return "";
    const Checkpoint model = Checkpoint::open(folder.string());
    return model.tiedHead() == TiedHead::Different ? dumpPythonJson(model.config(), 2) : "";
}

}  // namespace

std::vector<std::vector<StagedTensor>> weightsOfStages(const Checkpoint& base, const Plan& plan, PassEnd end) {
    std::vector<std::vector<StagedTensor>> ofRanks;
    for (const RankPlan& rank : plan.ranks) {
        std::vector<StagedTensor>& weights = ofRanks.emplace_back();
        const bool runs = rank.endLayer > rank.firstLayer;
        const bool isLast = runs && rank.endLayer == base.architecture().layers();
        for (const TensorInfo& tensor : base.tensors()) {
            const Place place = base.architecture().placeOf(tensor.name);
            const bool isRun =
                place.part == Part::Layer ? place.layer >= rank.firstLayer && place.layer < rank.endLayer
                : place.part == Part::BeforeLayers
                    ? (runs && rank.firstLayer == 0) || (isLast && end == PassEnd::Head)
                    : isLast && (end == PassEnd::Head || base.architecture().describe(tensor).role == Role::Norm);
            if (isRun) weights.push_back({&base, &tensor});
        }
    }
    return ofRanks;
}

StagedModels::StagedModels(World& world, const std::set<std::string>& names) {
    if (world.isRoot()) describe(names);
    const Json described = Json::parse(world.broadcast(Json{{"parts", partsOf_}, {"folders", folders_.size()}}.dump()));
    if (!world.isRoot()) {
        partsOf_ = described.at("parts").get<decltype(partsOf_)>();
        folder_.emplace();
    }
    for (std::size_t number = 0; number < described.at("folders").get<std::size_t>(); ++number) stageFolder(world, number);
}

void StagedModels::describe(const std::set<std::string>& names) {
    for (const std::string& name : names) {
        const auto parts = splitAdaptedName(name);
        for (const std::string& part : parts ? std::vector{parts->base, parts->adapter} : std::vector{name}) {
            fs::path folder = modelFolder(part);
            if (isAdapterFolder(folder) && isMergedByPeft(folder)) {
                // The other ranks have not the weights to merge it into: they get what comes out.
                if (!parts)
                    throw InputError("{0}: is an adapter that PEFT merges into its base; with --io scatter write BASE+{0}",
                                     name);
                folder = mergedByPeft(Checkpoint::open(parts->base), folder);
            }
            const auto known = std::ranges::find(folders_, folder);
            partsOf_[name].push_back(static_cast<std::size_t>(known - folders_.begin()));
            if (known == folders_.end()) folders_.push_back(folder);
        }
    }
}

void StagedModels::stageFolder(World& world, std::size_t number) {
    const std::vector<Listed> files = listFrom(world.broadcast(world.isRoot() ? toText(list(folders_[number])) : ""));
    const fs::path folder = world.isRoot() ? folders_[number] : folder_->path() / std::to_string(number);
    if (!world.isRoot()) fs::create_directory(folder);
    for (const Listed& listed : files) {
        const fs::path path = folder / listed.name;
        File file = world.isRoot() ? File::openForReading(path) : File::openForWriting(path);
        const std::string head = world.broadcast(world.isRoot() ? partsOf(file, listed.head) : "");
        if (!world.isRoot()) {
            writeParts(head, listed.head, file);
            file.resize(listed.bytes);
        }
        if (listed.isWeights) weights_.push_back({path, std::move(file)});
    }
    const std::string config = world.broadcast(world.isRoot() ? untiedConfig(folder) : "");
    if (!world.isRoot() && !config.empty()) writeTextFile(folder / "config.json", config);
}

std::string StagedModels::nameHere(const std::string& name) const {
    const auto parts = partsOf_.find(name);
    if (parts == partsOf_.end() || !folder_) return name;
    std::string here;
    for (const std::size_t part : parts->second) {
        if (!here.empty()) here += '+';
        here += (folder_->path() / std::to_string(part)).string();
    }
    return here;
}

void StagedModels::fill(World& world, const std::vector<std::vector<StagedTensor>>& ofRanks) {
    if (!world.isRoot()) return receive(world);
    for (int rank = 1; rank < world.size(); ++rank) sendTo(world, rank, ofRanks.at(static_cast<std::size_t>(rank)));
}

void StagedModels::sendTo(World& world, int rank, const std::vector<StagedTensor>& tensors) {
    std::vector<Stretch> stretches;
    Json announced = Json::array();
    const auto add = [&](const Checkpoint& model, const TensorInfo& tensor) {
        const auto file = std::ranges::find(weights_, model.files()[tensor.fileIndex], &StagedFile::path);
        if (file == weights_.end()) return;  // sent whole
        const auto number = static_cast<std::size_t>(file - weights_.begin());
        const ByteRange bytes = tensor.bytes;
        if (!sent_.insert({rank, {number, bytes.begin}}).second) return;
        stretches.push_back({number, bytes});
        announced.push_back({number, bytes.begin, bytes.end});
    };
    for (const auto& [model, tensor] : tensors) {
        add(*model, *tensor);
        if (const ParameterUpdate* update = model->updateOf(*tensor))
            for (const TensorInfo* part : tensorsOf(*update)) add(*model, *part);
    }
    sendText(world, rank, kWeightsTag, announced.dump());
    std::vector<PieceAhead> pieces;
    for (const Stretch& stretch : stretches) addPieces(pieces, weights_[stretch.file].file, stretch.bytes, Reading::Once);
    const ReadAhead ahead(std::move(pieces), kReadAheadBytes);
    for (const Stretch& stretch : stretches)
        sendBytes(world, rank, kWeightsTag, stretch.bytes.size(), [&](std::uint64_t offset, std::span<std::byte> part) {
            weights_[stretch.file].file.readAt(stretch.bytes.begin + offset, part);
        });
}

void StagedModels::receive(World& world) {
    for (const Json& announced : Json::parse(receiveText(world, 0, kWeightsTag))) {
        File& file = weights_.at(announced.at(0).get<std::size_t>()).file;
        const auto begin = announced.at(1).get<std::uint64_t>(), end = announced.at(2).get<std::uint64_t>();
        receiveBytes(world, 0, kWeightsTag, end - begin,
                     [&](std::uint64_t offset, std::span<const std::byte> part) { file.writeAt(begin + offset, part); });
    }
}

}  // namespace aimerge
