#pragma once
// A Llama model folder of a few kilobytes whose config and tensors a test may change before it is written.

#include "support/safetensors_builder.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

struct TinyTensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string bytes;
};

/// Two layers, hidden size 4, 2 heads, 1 key-value head, 6 tokens, F32, lm_head not tied.
struct TinyLlama {
    nlohmann::ordered_json config;
    std::map<std::string, TinyTensor> tensors;

    TinyLlama() {
        config = {{"architectures", {"LlamaForCausalLM"}},
                  {"model_type", "llama"},
                  {"hidden_size", 4},
                  {"intermediate_size", 8},
                  {"num_hidden_layers", 2},
                  {"num_attention_heads", 2},
                  {"num_key_value_heads", 1},
                  {"vocab_size", 6},
                  {"rms_norm_eps", 1e-5},
                  {"tie_word_embeddings", false},
                  {"torch_dtype", "float32"}};
        addFloats("model.embed_tokens.weight", {6, 4});
        for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
            const std::string prefix = layer;
            addFloats(prefix + "input_layernorm.weight", {4});
            addFloats(prefix + "self_attn.q_proj.weight", {4, 4});
            addFloats(prefix + "self_attn.k_proj.weight", {2, 4});
            addFloats(prefix + "self_attn.v_proj.weight", {2, 4});
            addFloats(prefix + "self_attn.o_proj.weight", {4, 4});
            addFloats(prefix + "post_attention_layernorm.weight", {4});
            addFloats(prefix + "mlp.gate_proj.weight", {8, 4});
            addFloats(prefix + "mlp.up_proj.weight", {8, 4});
            addFloats(prefix + "mlp.down_proj.weight", {4, 8});
        }
        addFloats("model.norm.weight", {4});
        addFloats("lm_head.weight", {6, 4});
    }

    /// Values 0, 1, 2, ... as F32.
    void addFloats(const std::string& name, const std::vector<std::int64_t>& shape) {
        std::int64_t count = 1;
        for (const std::int64_t dimension : shape) count *= dimension;
        std::vector<float> values(static_cast<std::size_t>(count));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
        tensors[name] = {"F32", shape, bytesOf(values)};
    }

    /// Tensors [firstTensor, endTensor) in the order of their names.
    void writeShard(const std::filesystem::path& path, std::size_t firstTensor, std::size_t endTensor) const {
        SafetensorsBuilder builder;
        builder.metadata("format", "pt");
        std::size_t index = 0;
        for (const auto& [name, tensor] : tensors) {
            if (index >= firstTensor && index < endTensor) builder.add(name, tensor.dtype, tensor.shape, tensor.bytes);
            ++index;
        }
        builder.write(path);
    }

    void writeConfig(const std::filesystem::path& folder) const { writeBytes(folder / "config.json", config.dump(2)); }

    void write(const std::filesystem::path& folder) const {
        writeConfig(folder);
        writeShard(folder / "model.safetensors", 0, tensors.size());
    }

    /// The same in two shards. Returns the index, which is written too.
    nlohmann::json writeSharded(const std::filesystem::path& folder) const {
        const char* names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
        const std::size_t half = tensors.size() / 2;
        writeConfig(folder);
        writeShard(folder / names[0], 0, half);
        writeShard(folder / names[1], half, tensors.size());
        nlohmann::json index;
        std::size_t position = 0, totalBytes = 0;
        for (const auto& [name, tensor] : tensors) {
            index["weight_map"][name] = names[position++ < half ? 0 : 1];
            totalBytes += tensor.bytes.size();
        }
        index["metadata"]["total_size"] = totalBytes;
        writeBytes(folder / "model.safetensors.index.json", index.dump());
        return index;
    }
};

}  // namespace aimerge
