#pragma once
// Adapters as PEFT writes them: a folder with adapter_config.json and adapter_model.safetensors, or .bin of older
// versions. An adapter is no model: it says how the parameters of a base model change. Read here are its config and its
// header; factors are read by whoever applies them (merge/sources/adapted_source.h). What PEFT's merge_and_unload makes of the same
// files is the reference.
//
//     LoRA            W' = W + scaling B A        A [r, in], B [out, r], scaling = alpha / r, with rsLoRA alpha / sqrt(r)
//     DoRA            W' = m / ||W + scaling B A|| (W + scaling B A)    norm over the inputs of each output, m [out]
//     trainable tokens    rows of a table, which take the place of the base's
//
// Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685; rsLoRA: Kalajdzievski 2023,
// arXiv 2312.03732; DoRA: Liu et al. 2024, arXiv 2402.09353. Kinds with other formulas are merged by PEFT itself
// (peft_merge.h).

#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace aimerge {

/// The change of one parameter, LoRA or DoRA. Tensors are of dtypes that can be merged; positions in Adapter::weights.
struct LowRankUpdate {
    TensorInfo a, b;     // [experts r, n], [m, r experts]: row e r + i of `a`, column i experts + e of `b` are expert e's
    double scaling = 1;  // finite
    bool transposed = false;                   // the change is (B A)^T: embeddings, and layers that store [in, out]
    std::optional<TensorInfo> magnitude = {};  // DoRA: one value per output

    std::int64_t experts = 1;                 // of a mixture, whose factors the tensors hold
    std::optional<std::int64_t> expert = {};  // the parameter is of this one alone; nullopt: of all, [experts, ., .]
    // The parameter has these rows of `b` and columns of `a`: not all of them where gate and up share one.
    std::int64_t firstOutput = 0, outputs = 0;
    std::int64_t firstInput = 0, inputs = 0;

    std::int64_t rank() const { return a.shape[0] / experts; }
    Shape shape() const;  // of the parameter that it fits
};

/// Rows of a table that are stored in full.
struct TokenRows {
    TensorInfo rows;                   // [tokens, .], of a dtype that can be merged
    std::vector<std::int64_t> tokens;  // which rows; none twice
};

/// The parameter as PEFT has merged it, in float32 whatever the base's dtype is.
struct MergedValues {
    TensorInfo values;
};

using ParameterUpdate = std::variant<LowRankUpdate, TokenRows, MergedValues>;

/// The tensors that an update reads.
std::vector<const TensorInfo*> tensorsOf(const ParameterUpdate& update);

/// A parameter by which a config names what it adapts (target_parameters).
struct TargetParameter {
    std::string name;  // without the module: "gate_up_proj"
    std::int64_t rank = 0;
    double scaling = 1;
};

/// Factors of a module's parameters, of which the file does not say which is which.
struct TargetedFactors {
    std::vector<TargetParameter> candidates;  // the module need not have them all
    std::vector<LowRankUpdate> nested;        // the last parameter of the module comes first; rank and scaling unset
    // In memory, experts are [experts, out, in] or, in some models, [experts, in, out]. Up to PEFT 0.18 A has the second
    // axis and B the third; since then A has the inputs and B the outputs.
    bool inAxisOrder = false;
};

struct Adapter {
    std::filesystem::path folder;
    std::vector<std::filesystem::path> weights;       // TensorInfo::fileIndex counts from the first
    nlohmann::ordered_json config;                    // adapter_config.json
    std::string configFile;                           // its path, for messages
    std::string trainedOn;                            // base_model_name_or_path; empty when the config has none
    std::map<std::string, ParameterUpdate> updates;   // by name of the parameter
    std::map<std::string, TargetedFactors> targeted;  // by name of the module
    std::vector<TensorInfo> replacements;             // parameters stored in full; `name` is the parameter's
    std::vector<std::string> modulesToSave;           // ends of the names of modules stored in full
    bool tiesWeights = false;                         // ensure_weight_tying
};

/// "BASE+ADAPTER", each a folder or a hub name.
struct AdaptedName {
    std::string base, adapter;
};

/// nullopt when `name` is an existing folder (which may have a plus sign in its name), or not of that form.
std::optional<AdaptedName> splitAdaptedName(const std::string& name);

/// True for a folder with adapter_config.json and without a model's weights.
bool isAdapterFolder(const std::filesystem::path& folder);

/// True for a folder with adapter_config.json and adapter weights.
bool holdsAdapter(const std::filesystem::path& folder);

/// @throws InputError naming the file and the key or tensor: files missing or damaged; a kind of adapter, or a setting,
/// whose result would not be that of the formulas above; A without B; ranks that are not the config's
Adapter readAdapter(const std::filesystem::path& folder);

}  // namespace aimerge
