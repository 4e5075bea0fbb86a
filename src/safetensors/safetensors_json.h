#pragma once
// The JSON of a safetensors header as it is written, read in one pass and refused at the first thing that does not belong
// there: whatever is nested deeper than the format, a key twice, an unknown key, a number that is not a whole one. Time and
// memory are proportional to the text. What the values mean is checked by safetensors.cpp.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct TensorEntry {
    std::string name;
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::array<std::uint64_t, 2> dataOffsets{};
};

struct SafetensorsJson {
    std::vector<TensorEntry> tensors;  // as written
    std::map<std::string, std::string> metadata;
};

/// @throws InputError that begins with `fileName` and says where in the header the fault is
SafetensorsJson readSafetensorsJson(std::string_view json, const std::string& fileName);

}  // namespace aimerge
