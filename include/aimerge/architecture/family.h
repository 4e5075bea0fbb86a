#pragma once
// What is known of a family of models: data, one short file each under src/architecture/families. Names are those behind the
// layer's number.

#include "aimerge/architecture/architecture.h"

#include <span>
#include <string_view>
#include <vector>

namespace aimerge {

/// What enters a linear layer of a decoder layer. Layers with the same activation share their input.
enum class Activation {
    AttentionInput,   // behind the norm before attention
    AttentionOutput,  // the heads' outputs, before they are projected
    MlpInput,         // behind the norm before the MLP
    MlpInner          // between the MLP's projections
};

struct LinearModule {
    std::string_view name;  // "self_attn.q_proj"
    Activation input;
    int inputAxis = -1;  // of [out, in]; -2 of [in, out]
};

/// How the matrix of a fused expert is stored, where its shape does not tell.
enum class ExpertLayout {
    OutIn,  // [experts, out, in]
    InOut,  // [experts, in, out]
    Either  // one program writes it so, another the other way
};

/// How attention knows the places of tokens.
enum class Positions {
    Rotary,  // queries and keys are rotated, whole or in part as config.json says
    RotaryInSomeLayers,
    Learnt,    // a table beside the embedding
    Relative,  // a table of distances, added to the scores
    Unsaid     // the order of the tokens is in a recurrence, or nowhere
};
std::string_view positionsName(Positions positions);  // "rotary", ...

struct Family {
    std::vector<std::string_view> modelTypes;
    std::span<const LinearModule> attention = {}, mlp = {};  // of every layer; a layer need not have all
    std::vector<std::string_view> norms = {};                // likewise
    bool scalesExpertInputs = false;  // by the router's score, so that they are not the router's own input
    Positions positions = Positions::Rotary;
    ExpertLayout expertLayout = ExpertLayout::OutIn;
    std::vector<std::string_view> behindLayers = {};  // modules whose names would tell otherwise
    std::int64_t differentFirst = 0;  // so many layers at the beginning have tensors that the others have not
    std::string_view byNumber = {};   // why the kind of a layer follows from its number
};

/// Null for a type that is not known.
const Family* findFamily(std::string_view modelType);

/// The module of that name in the family's layers; null when there is none, or no family.
const LinearModule* findModule(const Family* family, std::string_view nameInLayer);

/// The first of the modules that one activation enters. @pre some module has it
const LinearModule& firstWithInput(const Family& family, Activation input);

}  // namespace aimerge
