#pragma once
// What config.json says about the forward pass. Statistics belong to a model's weights and to this: with another
// rope_scaling the same weights give other activations.

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// A text that is equal for two configs of the same forward pass. Of a model_type that the decoder runs it is made of the
/// fields of ModelConfig that decide what the decoder computes, so that both styles of config.json (transformers 4 and 5)
/// and absent keys with their defaults are the same. Of any other type it is the JSON without the keys that are known to say
/// nothing about the forward pass. Whether embeddings are tied is a matter of the weights.
/// @throws InputError what parseModelConfig() throws
std::string forwardIdentity(const nlohmann::ordered_json& config);

/// Where two configs part. Values are JSON, or "absent"; long ones are cut.
struct ForwardDifference {
    std::string key;  // as config.json has it; within a section "rope_scaling.factor"
    std::string first, second;
};

/// The first key, types before all and then in the order of the alphabet, in which the identities differ; nothing when they
/// are equal. @throws InputError what forwardIdentity() throws
std::optional<ForwardDifference> forwardDifference(const nlohmann::ordered_json& first,
                                                   const nlohmann::ordered_json& second);

/// All keys that both configs have, that may decide about the forward pass, and that have different values, in the order of
/// the alphabet; both styles of rope_parameters are one, as far as both say something. What only one of two configs has may
/// be a default that a newer program writes.
std::vector<ForwardDifference> statedDifferences(const nlohmann::ordered_json& first, const nlohmann::ordered_json& second);

}  // namespace aimerge
