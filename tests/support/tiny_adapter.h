#pragma once
// A LoRA adapter for TinyLlama whose config and tensors a test may change before it is written.

#include "support/tiny_llama.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

/// Rank 2, alpha 4, on the query projection of layer 0.
struct TinyAdapter {
    nlohmann::ordered_json config;
    std::map<std::string, TinyTensor> tensors;

    TinyAdapter() {
        config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"bias", "none"}, {"target_modules", {"q_proj"}}};
        addFactors("model.layers.0.self_attn.q_proj", 2, 4, 4);
    }

    /// Values first, first + 1, ... as F32.
    void addFloats(const std::string& name, const std::vector<std::int64_t>& shape, float first) {
        std::int64_t count = 1;
        for (const std::int64_t dimension : shape) count *= dimension;
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& value : values) value = first++;
        tensors[name] = {"F32", shape, bytesOf(values)};
    }

    /// A [rank, in] and B [out, rank] of a module.
    void addFactors(const std::string& module, std::int64_t rank, std::int64_t in, std::int64_t out, float first = 1) {
        addFloats("base_model.model." + module + ".lora_A.weight", {rank, in}, first);
        addFloats("base_model.model." + module + ".lora_B.weight", {out, rank}, -first);
    }

    void write(const std::filesystem::path& folder) const {
        writeBytes(folder / "adapter_config.json", config.dump(2));
        SafetensorsBuilder builder;
        for (const auto& [name, tensor] : tensors) builder.add(name, tensor.dtype, tensor.shape, tensor.bytes);
        builder.write(folder / "adapter_model.safetensors");
    }
};

}  // namespace aimerge
