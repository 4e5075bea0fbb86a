#include "config/foreign_config.h"

#include "aimerge/core/error.h"

#include <array>

namespace aimerge {
namespace {

struct ForeignKey {
    std::string_view key;
    const char* answer;  // after "'KEY' is a key of"
};

constexpr const char* kMoe =
    "mergekit-moe, which builds a mixture of experts out of dense models; aimerge does not build one. Experts are merged "
    "into "
    "one dense model by a merge_method, and mixtures of one architecture with each other";
constexpr const char* kEvolve =
    "mergekit-evolve, which searches for parameters by evolution; aimerge has no such search. A grid of methods, "
    "combinations "
    "of experts and omegas is merged and scored by `aimerge sweep` (docs/file-formats.md, sweep configs)";
constexpr const char* kBakllama =
    "bakllama; write 'slices' with the 'layer_range' of each source, and merge_method passthrough";
constexpr const char* kSweep = "sweep configs; run it by `aimerge sweep`";

constexpr std::array kForeignKeys{
    ForeignKey{"gate_mode", kMoe},    ForeignKey{"experts_per_token", kMoe}, ForeignKey{"shared_experts", kMoe},
    ForeignKey{"genome", kEvolve},    ForeignKey{"layer_slices", kBakllama}, ForeignKey{"combinations", kSweep},
    ForeignKey{"evaluation", kSweep}, ForeignKey{"methods", kSweep},
};

}  // namespace

void refuseForeignConfig(const YamlNode& root) {
    if (root.kind != YamlNode::Kind::Mapping || root.find("merge_method") != nullptr) return;
    for (const ForeignKey& foreign : kForeignKeys)
        if (const YamlEntry* entry = root.find(foreign.key))
            throw UsageError("{}: '{}' is a key of {}", entry->mark.text(), foreign.key, foreign.answer);
    // The only key of mergekit-moe that is required; a sweep has 'experts', too, as a mapping.
    const YamlEntry* experts = root.find("experts");
    if (experts != nullptr)
        throw UsageError("{}: 'experts' is a key of {}", experts->mark.text(),
                         experts->value.kind == YamlNode::Kind::Sequence ? kMoe : kSweep);
}

}  // namespace aimerge
