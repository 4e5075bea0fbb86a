#include "distributed/llama_headers.h"

#include "aimerge/core/file.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace aimerge {

std::vector<OutputTensor> llamaTensors(const LlamaShape& shape, Dtype dtype) {
    const std::int64_t keyValue = shape.hidden / shape.heads * shape.keyValueHeads;
    std::vector<OutputTensor> tensors{{"model.embed_tokens.weight", dtype, {shape.vocabulary, shape.hidden}}};
    for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
        const auto add = [&](const char* name, Shape of) {
            tensors.push_back({fmt::format("model.layers.{}.{}.weight", layer, name), dtype, std::move(of)});
        };
        add("self_attn.q_proj", {shape.hidden, shape.hidden});
        add("self_attn.k_proj", {keyValue, shape.hidden});
        add("self_attn.v_proj", {keyValue, shape.hidden});
        add("self_attn.o_proj", {shape.hidden, shape.hidden});
        add("mlp.gate_proj", {shape.intermediate, shape.hidden});
        add("mlp.up_proj", {shape.intermediate, shape.hidden});
        add("mlp.down_proj", {shape.hidden, shape.intermediate});
        add("input_layernorm", {shape.hidden});
        add("post_attention_layernorm", {shape.hidden});
    }
    tensors.push_back({"model.norm.weight", dtype, {shape.hidden}});
    if (!shape.tied) tensors.push_back({"lm_head.weight", dtype, {shape.vocabulary, shape.hidden}});
    return tensors;
}

void writeHeadersOnly(const std::filesystem::path& folder, const LlamaShape& shape, Dtype dtype,
                      std::uint64_t maxShardBytes) {
    std::filesystem::create_directories(folder);
    const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                           {"model_type", "llama"},
                                           {"hidden_size", shape.hidden},
                                           {"intermediate_size", shape.intermediate},
                                           {"num_hidden_layers", shape.layers},
                                           {"num_attention_heads", shape.heads},
                                           {"num_key_value_heads", shape.keyValueHeads},
                                           {"vocab_size", shape.vocabulary},
                                           {"max_position_embeddings", 4096},
                                           {"rms_norm_eps", 1e-5},
                                           {"hidden_act", "silu"},
                                           {"tie_word_embeddings", shape.tied},
                                           {"torch_dtype", torchName(dtype)}};
    writeTextFile(folder / "config.json", config.dump(2));
    const ShardLayout layout = layOutShards(llamaTensors(shape, dtype), maxShardBytes);
    for (const OutputShard& shard : layout.shards) {
        writeTextFile(folder / shard.fileName, shard.header);
        std::filesystem::resize_file(folder / shard.fileName, shard.fileBytes);
    }
    if (layout.shards.size() > 1) writeTextFile(folder / "model.safetensors.index.json", layout.indexJson());
}

}  // namespace aimerge
