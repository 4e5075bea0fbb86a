#pragma once
// Makes safetensors files for tests: correct ones from tensors, and wrong ones from any header text and any data.
//
//     SafetensorsBuilder().add("a", "F32", {2}, bytesOf<float>({1, 2})).write(folder / "model.safetensors");
//     writeRawSafetensors(path, R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0'));

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace aimerge {

/// The values' memory as a string of bytes.
template <typename Element>
std::string bytesOf(const std::vector<Element>& values) {
    std::string bytes(values.size() * sizeof(Element), '\0');
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

inline void writeBytes(const std::filesystem::path& path, const std::string& bytes) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream file(path, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

/// Length field, `header` as it stands, `data`.
inline void writeRawSafetensors(const std::filesystem::path& path, const std::string& header, const std::string& data) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xFF);
    writeBytes(path, length + header + data);
}

/// Tensors lie in the file in the order of add(). Sizes are not checked against shapes.
class SafetensorsBuilder {
public:
    SafetensorsBuilder& add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape,
                            const std::string& bytes) {
        header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
        data_ += bytes;
        return *this;
    }

    SafetensorsBuilder& metadata(const std::string& key, const std::string& value) {
        header_["__metadata__"][key] = value;
        return *this;
    }

    void write(const std::filesystem::path& path) const { writeRawSafetensors(path, header_.dump(), data_); }

private:
    nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
    std::string data_;
};

}  // namespace aimerge
