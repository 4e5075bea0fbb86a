#pragma once
// The golden Llama of tests/data/goldens and changed copies of it.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/file.h"
#include "aimerge/safetensors/safetensors.h"
#include "support/safetensors_builder.h"

#include <nlohmann/json.hpp>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

inline std::filesystem::path goldenPath(const std::string& name) {
    return std::filesystem::path(AIMERGE_TEST_DATA) / "goldens" / name;
}

/// All F32 or I64 tensors of a golden file, as their elements.
template <typename Element>
std::map<std::string, std::vector<Element>> readGolden(const std::string& name, Dtype dtype) {
    std::map<std::string, std::vector<Element>> result;
    const File file = File::openForReading(goldenPath(name));
    for (const TensorInfo& tensor : readSafetensorsHeader(goldenPath(name)).tensors) {
        if (tensor.dtype != dtype) continue;
        std::vector<Element> values(static_cast<std::size_t>(tensor.elements()));
        file.readAt(tensor.bytes.begin, std::as_writable_bytes(std::span(values)));
        result.emplace(tensor.name, std::move(values));
    }
    return result;
}

/// One tensor of a model that is being changed.
struct EditableTensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string bytes;

    template <typename Element>
    void set(std::size_t index, Element value) {
        std::memcpy(bytes.data() + index * sizeof value, &value, sizeof value);
    }
};

/// A golden model in memory; change config and tensors, then write it to a folder of its own.
struct EditableModel {
    explicit EditableModel(const std::string& golden) {
        const Checkpoint checkpoint = Checkpoint::open(goldenPath(golden).string());
        config = checkpoint.config();
        for (const TensorInfo& tensor : checkpoint.tensors()) {
            std::string bytes(tensor.bytes.size(), '\0');
            checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
            tensors[tensor.name] = {std::string(safetensorsName(tensor.dtype)), tensor.shape, std::move(bytes)};
        }
    }

    void write(const std::filesystem::path& folder) const {
        writeBytes(folder / "config.json", config.dump());
        SafetensorsBuilder builder;
        for (const auto& [name, tensor] : tensors) builder.add(name, tensor.dtype, tensor.shape, tensor.bytes);
        builder.write(folder / "model.safetensors");
    }

    nlohmann::ordered_json config;
    std::map<std::string, EditableTensor> tensors;
};

}  // namespace aimerge
