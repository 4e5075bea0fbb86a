#pragma once
// The goldens of tests/data: the manifest's entries, and tensors as float32.

#include "aimerge/core/file.h"
#include "merge/memory_parameter.h"
#include "merge/sources/convert.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <string>

namespace aimerge {

using Json = nlohmann::ordered_json;

inline const std::filesystem::path kGoldens = std::filesystem::path(AIMERGE_TEST_DATA) / "goldens";

struct GoldenTensor {
    Shape shape;
    Floats values;
};

/// @param file below tests/data/goldens
inline std::map<std::string, GoldenTensor> goldenTensors(const std::filesystem::path& file) {
    const File opened = File::openForReading(kGoldens / file);
    std::map<std::string, GoldenTensor> tensors;
    for (const TensorInfo& tensor : readSafetensorsHeader(kGoldens / file).tensors) {
        std::vector<std::byte> bytes(tensor.bytes.size());
        opened.readAt(tensor.bytes.begin, bytes);
        GoldenTensor& golden = tensors[tensor.name];
        golden.shape = tensor.shape;
        golden.values.resize(static_cast<std::size_t>(tensor.elements()));
        toFloat(tensor.dtype, bytes.data(), golden.values);
    }
    return tensors;
}

inline std::map<std::string, Floats> goldenValues(const std::filesystem::path& file) {
    std::map<std::string, Floats> values;
    for (const auto& [name, tensor] : goldenTensors(file)) values[name] = tensor.values;
    return values;
}

inline Json goldenEntries() {
    return Json::parse(readTextFile(kGoldens / "manifest.json")).at("entries");
}

inline Json goldenEntry(const std::string& name) {
    for (const Json& entry : goldenEntries())
        if (entry.at("name") == name) return entry;
    throw std::out_of_range(name);
}

}  // namespace aimerge
