#include "checkpoint/other_meaning.h"

#include "aimerge/checkpoint/forward_identity.h"
#include "aimerge/core/python_json.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <set>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kGenerationConfig = "generation_config.json";
constexpr std::array<const char*, 5> kKeys{"max_position_embeddings", "sliding_window", "use_sliding_window", "layer_types",
                                           "eos_token_id"};
/// What other checks compare, in any section.
constexpr std::array<std::string_view, 13> kCompared{"model_type",
                                                     "hidden_size",
                                                     "intermediate_size",
                                                     "num_hidden_layers",
                                                     "num_attention_heads",
                                                     "num_key_value_heads",
                                                     "head_dim",
                                                     "vocab_size",
                                                     "rms_norm_eps",
                                                     "hidden_act",
                                                     "quantization_config",
                                                     "num_nextn_predict_layers",
                                                     "mtp_num_hidden_layers"};
constexpr std::array<std::string_view, 2> kOfTheWriter{"transformers_version", "_from_model_config"};

/// A list of one token is that token; what is null is not there.
Json normal(const Json* value) {
    if (value == nullptr) return nullptr;
    return value->is_array() && value->size() == 1 ? value->front() : *value;
}

std::string textOf(const Json& value) {
    return value.is_null() ? "absent" : dumpPythonJson(value, -1);
}

/// Collects "max_position_embeddings is 32768, there 4096".
class Differences {
public:
    void compare(const std::string& key, const Json& found, const Json& expected) {
        if (nlohmann::json(found) == nlohmann::json(expected)) return;
        if (found.is_array() && expected.is_array() && found.size() == expected.size() && found.size() > kShownWhole)
            return compareElements(key, found, expected);
        texts_.push_back(fmt::format("{} is {}, there {}", key, textOf(found), textOf(expected)));
    }

    void add(const ForwardDifference& difference) {
        texts_.push_back(fmt::format("{} is {}, there {}", difference.key, difference.first, difference.second));
    }

    void addPresence(const std::string& file, bool isHere) {
        texts_.push_back(file + (isHere ? " is here, there is none there" : " is not here, but there"));
    }

    const std::vector<std::string>& texts() const { return texts_; }

private:
    static constexpr std::size_t kShownWhole = 4;

    void compareElements(const std::string& key, const Json& found, const Json& expected) {
        std::size_t first = found.size(), count = 0;
        for (std::size_t i = 0; i < found.size(); ++i)
            if (found[i] != expected[i]) first = std::min(first, i), ++count;
        texts_.push_back(fmt::format("{}[{}] is {}, there {} ({} of {} differ)", key, first, textOf(found[first]),
                                     textOf(expected[first]), count, found.size()));
    }

    std::vector<std::string> texts_;
};

/// Null where there is none; one that is damaged is left to whoever loads the model.
Json generationConfig(const Checkpoint& model) {
    const std::filesystem::path path = model.folder() / kGenerationConfig;
    if (!std::filesystem::is_regular_file(path)) return nullptr;
    Json json = tryParsePythonJson<Json>(readTextFile(path));
    return json.is_object() ? json : Json();
}

void compareGeneration(const Json& found, const Json& expected, Differences& differences) {
    const std::string prefix = std::string(kGenerationConfig) + ": ";
    if (found.is_null() != expected.is_null()) return differences.addPresence(kGenerationConfig, !found.is_null());
    std::set<std::string> keys;
    for (const Json* config : {&found, &expected})
        for (const auto& [key, value] : config->items()) keys.insert(key);
    const auto valueOf = [](const Json& config, const std::string& key) {
        const auto value = config.find(key);
        return normal(value == config.end() ? nullptr : &*value);
    };
    for (const std::string& key : keys)
        if (std::ranges::find(kOfTheWriter, key) == kOfTheWriter.end())
            differences.compare(prefix + key, valueOf(found, key), valueOf(expected, key));
}

/// Scalings, routing, caps and the like: what both configs state, and no other check compares.
void compareForward(const Checkpoint& model, const Checkpoint& reference, Differences& differences) {
    const bool ropeIsCompared = knowsRope(reference);
    for (const ForwardDifference& difference : statedDifferences(model.config(), reference.config())) {
        const std::string_view key = std::string_view(difference.key).substr(difference.key.rfind('.') + 1);
        const bool isCompared = std::ranges::find(kCompared, key) != kCompared.end() ||
                                std::ranges::find(kKeys, key) != kKeys.end() ||
                                (ropeIsCompared && difference.key.starts_with("rope_parameters."));
        if (!isCompared) differences.add(difference);
    }
}

}  // namespace

bool knowsRope(const Checkpoint& model) {
    return isFullyRead(model.modelConfig().modelType);
}

void sayOtherMeaning(const Checkpoint& model, const Checkpoint& reference, bool wholeModels) {
    Differences differences;
    for (const char* key : kKeys) {
        if (std::string_view(key) == "layer_types" && !wholeModels) continue;
        differences.compare(key, normal(findOfText(model.config(), key)), normal(findOfText(reference.config(), key)));
    }
    if (wholeModels) compareForward(model, reference, differences);
    compareGeneration(generationConfig(model), generationConfig(reference), differences);
    if (!differences.texts().empty())
        spdlog::warn("{}: says other things than {}, whose values the output has: {}", model.name(), reference.name(),
                     fmt::join(differences.texts(), "; "));
}

}  // namespace aimerge
