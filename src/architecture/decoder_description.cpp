#include "aimerge/architecture/decoder_description.h"

#include <fmt/format.h>

#include <algorithm>

namespace aimerge {
namespace {

/// What a block has and takes, per token where it is an activation. One of these for each kind of block.
struct BlockFigures {
    std::vector<ModuleDescription> modules;  // single numbers behind the others
    std::vector<std::size_t> inputs;         // how many modules each of its inputs enters
    std::int64_t kept = 0;                   // elements for the backward pass
    std::int64_t state = 0;                  // elements beside the hidden state, at the widest place between its modules
    std::int64_t work = 0;                   // elements at its widest moment, beside the hidden state and its own input
};

BlockFigures figuresOf(const NormDescription& norm) {
    return {.modules = {norm.module()}, .inputs = {1}, .kept = norm.channels, .state = norm.channels, .work = 0};
}

BlockFigures figuresOf(const AttentionDescription& attention) {
    const std::int64_t queries = attention.queryChannels(), keys = attention.keyChannels();
    const std::int64_t entering = attention.projections.front().inputs();
    BlockFigures figures{.modules = attention.projections,
                         .inputs = {attention.projections.size()},
                         .kept = entering + 2 * queries + 2 * keys,  // query, key and value, and what they became
                         .state = 2 * (queries + keys),
                         .work = 2 * (queries + keys)};
    if (attention.queryNorm) {
        for (const HeadNorm& part : attention.headNorms()) {
            figures.modules.push_back(part.norm.module());
            figures.inputs.push_back(1);
        }
        figures.kept += queries + keys;  // before the norms
    }
    figures.modules.push_back(attention.output);
    figures.inputs.push_back(1);
    return figures;
}

BlockFigures figuresOf(const MlpDescription& mlp) {
    const std::int64_t inners = mlp.isGated ? 2 * mlp.inner : mlp.inner;
    BlockFigures figures{.modules = mlp.projections,
                         .inputs = {mlp.projections.size(), 1},
                         .kept = mlp.projections.front().inputs() + inners,
                         .state = mlp.inner,
                         .work = 2 * mlp.inner};
    figures.modules.push_back(mlp.output);
    figures.modules.insert(figures.modules.end(), mlp.numbers.begin(), mlp.numbers.end());
    return figures;
}

BlockFigures figuresOf(const AddDescription& /*add*/) {
    return {};
}

template <typename Work>
void overFigures(const LayerDescription& layer, const Work& work) {
    for (const BlockDescription& block : layer.blocks)
        work(std::visit([](const auto& description) { return figuresOf(description); }, block));
}

bool keepsStream(const BlockDescription& block) {
    const auto* norm = std::get_if<NormDescription>(&block);
    return norm != nullptr && norm->to == Stream::Kept;
}

/// Elements per token of the streams beside a branch: the hidden state, and what a parallel branch keeps.
std::int64_t besideBranch(const LayerDescription& layer) {
    const auto& norms = layer.blocks;
    const auto kept = std::ranges::find_if(norms, keepsStream);
    return kept == norms.end() ? 0 : std::get<NormDescription>(*kept).channels;
}

}  // namespace

std::vector<HeadNorm> AttentionDescription::headNorms() const {
    std::vector<HeadNorm> norms;
    const auto add = [&](const NormDescription& norm, bool isOfQueries, std::int64_t ofThem) {
        if (!normalisesEachHead) return norms.push_back({norm, isOfQueries, 0, ofThem * headDim});
        for (std::int64_t head = 0; head < ofThem; ++head) {
            NormDescription own = norm;
            own.name = fmt::format("{}.{}", norm.name, head);
            norms.push_back({own, isOfQueries, head * headDim, headDim});
        }
    };
    if (queryNorm) add(*queryNorm, true, heads);
    if (keyNorm) add(*keyNorm, false, keyValueHeads);
    return norms;
}

std::int64_t ModuleDescription::elements() const {
    std::int64_t product = 1;
    for (const std::int64_t size : shape) product *= size;
    return product;
}

std::vector<ModuleDescription> LayerDescription::modules() const {
    std::vector<ModuleDescription> modules;
    overFigures(*this, [&](const BlockFigures& block) {
        modules.insert(modules.end(), block.modules.begin(), block.modules.end());
    });
    return modules;
}

std::vector<InputDescription> LayerDescription::inputs() const {
    std::vector<InputDescription> inputs;
    std::size_t firstOfBlock = 0;
    overFigures(*this, [&](const BlockFigures& block) {
        std::size_t first = firstOfBlock;
        for (const std::size_t count : block.inputs) {
            inputs.push_back({first, count});
            first += count;
        }
        firstOfBlock += block.modules.size();
    });
    return inputs;
}

std::int64_t LayerDescription::parameters() const {
    std::int64_t elements = 0;
    for (const ModuleDescription& module : modules()) elements += module.elements();
    return elements;
}

std::int64_t LayerDescription::keptPerToken() const {
    std::int64_t elements = 0;
    overFigures(*this, [&](const BlockFigures& block) { elements += block.kept; });
    return elements;
}

std::int64_t LayerDescription::widestState() const {
    std::int64_t widest = 0;
    overFigures(*this, [&](const BlockFigures& block) { widest = std::max(widest, block.state); });
    return widest + besideBranch(*this);
}

std::int64_t LayerDescription::widestWork() const {
    std::int64_t widest = 0, hidden = 0;
    overFigures(*this, [&](const BlockFigures& block) {
        widest = std::max(widest, block.work);
        std::int64_t last = 0;
        for (const ModuleDescription& module : block.modules)
            if (!module.isNumber) last = module.outputs();
        hidden = std::max(hidden, last);
    });
    return 2 * hidden + widest + besideBranch(*this);
}

std::string DecoderDescription::moduleName(std::int64_t layer, const ModuleDescription& module) const {
    return fmt::format("{}{}.{}", layerPrefix, layer, module.name);
}

std::vector<std::string> DecoderDescription::modulesAt(const ModuleInput& input) const {
    if (input == kFinalNormInput) return {finalNorm.name};
    if (input == kHeadInput) return {head};
    const LayerDescription& layer = layers[static_cast<std::size_t>(input.layer)];
    const std::vector<ModuleDescription> modules = layer.modules();
    const InputDescription entered = layer.inputs()[static_cast<std::size_t>(input.number)];
    std::vector<std::string> names;
    for (std::size_t i = 0; i < entered.modules; ++i)
        names.push_back(moduleName(input.layer, modules[entered.firstModule + i]));
    return names;
}

bool DecoderDescription::isNormAt(const ModuleInput& input) const {
    return input.layer < 0 ? input == kFinalNormInput : firstModuleAt(input).isNorm;
}

int DecoderDescription::inputAxisAt(const ModuleInput& input) const {
    return input.layer >= 0 && firstModuleAt(input).isInputMajor ? -2 : -1;
}

ModuleDescription DecoderDescription::firstModuleAt(const ModuleInput& input) const {
    const LayerDescription& layer = layers[static_cast<std::size_t>(input.layer)];
    return layer.modules()[layer.inputs()[static_cast<std::size_t>(input.number)].firstModule];
}

std::int64_t DecoderDescription::mostOfLayer(std::int64_t (LayerDescription::*quantity)() const) const {
    std::int64_t most = 0;
    for (const LayerDescription& layer : layers) most = std::max(most, (layer.*quantity)());
    return most;
}

void DecoderDescription::takeNames(const std::string& prefixOfLayers, const std::string& embeddingName,
                                   const std::string& headName) {
    const auto rootOf = [](const std::string& prefix) {  // "model." of "model.layers."
        return prefix.substr(0, prefix.rfind('.', prefix.size() - 2) + 1);
    };
    const std::string own = rootOf(layerPrefix), root = rootOf(prefixOfLayers);
    finalNorm.name.replace(0, own.size(), root);
    embedding = embeddingName.empty() ? embedding.replace(0, own.size(), root) : embeddingName;
    if (positions) positions->name.replace(0, own.size(), root);
    layerPrefix = prefixOfLayers;
    if (!headName.empty()) head = headName;
}

}  // namespace aimerge
