// A well-formed HDF5 file with groups, datasets and attributes of any type and shape, partly under the names of a statistics
// log. (Of a file that is no HDF5 libhdf5 itself makes sense, and sometimes crashes.) What passes can be merged by: every
// statistic is finite and not negative, shapes and counts agree, every sensitivity lies within the file.

#include "fuzz_target.h"

#include "aimerge/statistics/statistics_log.h"
#include "statistics/hdf5_object.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <vector>

namespace aimerge::fuzz {
namespace {

/// Bytes as choices; zeros when they are used up.
class Choices {
public:
    explicit Choices(std::string_view bytes) : bytes_(bytes) {}

    bool more() const { return !bytes_.empty(); }
    std::size_t of(std::size_t count) {
        if (bytes_.empty()) return 0;
        const auto byte = static_cast<unsigned char>(bytes_.front());
        bytes_.remove_prefix(1);
        return byte % count;
    }

private:
    std::string_view bytes_;
};

constexpr std::array kNames{"statistics",
                            "plan",
                            "timing",
                            "lm_head",
                            "model.norm",
                            "mean_abs",
                            "rms",
                            "max_abs",
                            "tokens",
                            "format_version",
                            "base_model",
                            "base_digest",
                            "base_file_stamps",
                            "corpus",
                            "tokens_digest",
                            "blocks",
                            "block_length",
                            "dtype",
                            "micro_batch",
                            "vocabulary",
                            "device",
                            "ranks",
                            "threads_per_rank",
                            "command_line",
                            "created",
                            "tool_version",
                            "x",
                            "sensitivity",
                            "input_axis",
                            "base_config",
                            "revision",
                            "machines"};

hdf5::Type anyType(Choices& choices) {
    switch (choices.of(6)) {
        case 0:
            return hdf5::Type(H5Tcopy(H5T_IEEE_F32LE));
        case 1:
            return hdf5::Type(H5Tcopy(H5T_STD_I64LE));
        case 2:
            return hdf5::Type(H5Tcopy(H5T_IEEE_F64BE));
        case 3: {  // of fixed length
            hdf5::Type text(H5Tcopy(H5T_C_S1));
            H5Tset_size(text.id(), choices.of(40) + 1);
            return text;
        }
        case 4: {
            hdf5::Type row(H5Tcreate(H5T_COMPOUND, 16));
            H5Tinsert(row.id(), "rank", 0, H5T_STD_I64LE);
            H5Tinsert(row.id(), kNames[choices.of(kNames.size())], 8, H5T_IEEE_F64LE);
            return row;
        }
        default:
            return hdf5::Type(H5Tvlen_create(H5T_STD_I32LE));
    }
}

/// Texts of any length, as the log has them.
hdf5::Type logText() {
    hdf5::Type text(H5Tcopy(H5T_C_S1));
    H5Tset_size(text.id(), H5T_VARIABLE);
    H5Tset_cset(text.id(), H5T_CSET_UTF8);
    return text;
}

hdf5::Space anySpace(Choices& choices) {
    const std::size_t rank = choices.of(4);
    if (rank == 0) return hdf5::Space(H5Screate(H5S_SCALAR));
    if (rank == 3) return hdf5::Space(H5Screate(H5S_NULL));
    const std::array<hsize_t, 2> extent{choices.of(9), choices.of(3)};
    return hdf5::Space(H5Screate_simple(static_cast<int>(rank), extent.data(), nullptr));
}

void addText(hid_t parent, const char* name, Choices& choices) {
    constexpr std::array kTexts{R"({"model_type": "llama"})", "[1]", "{", ""};
    const char* const text = kTexts[choices.of(kTexts.size())];
    const hdf5::Type type = logText();
    const hdf5::Space space(H5Screate(H5S_SCALAR));
    const hdf5::Dataset dataset(H5Dcreate2(parent, name, type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    if (dataset.valid()) H5Dwrite(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text);
}

void addDataset(hid_t parent, const char* name, Choices& choices) {
    if (name == std::string_view("base_config") && choices.of(2) == 0) return addText(parent, name, choices);
    const hdf5::Type type = anyType(choices);
    const hdf5::Space space = anySpace(choices);
    const hdf5::Dataset dataset(H5Dcreate2(parent, name, type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    if (!dataset.valid() || H5Tequal(type.id(), H5T_IEEE_F32LE) <= 0) return;  // the others have their fill values
    std::vector<float> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.id())));
    constexpr std::array kValues{0.0f, 1.0f, -1.0f, 1e30f, INFINITY, NAN};
    for (float& value : values) value = kValues[choices.of(kValues.size())];
    H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
}

void addAttribute(hid_t parent, const char* name, Choices& choices) {
    const bool isText = choices.of(2) == 1;
    const hdf5::Type type = isText ? logText() : anyType(choices);
    const hdf5::Space space = isText ? hdf5::Space(H5Screate(H5S_SCALAR)) : anySpace(choices);
    const hdf5::Attribute attribute(H5Acreate2(parent, name, type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT));
    const char* const text = "text";
    if (!attribute.valid()) return;
    if (isText) {
        H5Awrite(attribute.id(), type.id(), &text);
    } else if (H5Tget_class(type.id()) == H5T_INTEGER) {
        std::vector<std::int64_t> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.id())), 1);
        if (name == std::string_view("input_axis") || values.size() > 1)
            for (std::int64_t& value : values) value = static_cast<std::int64_t>(choices.of(5)) - 2;
        H5Awrite(attribute.id(), H5T_NATIVE_INT64, values.data());
    }
}

/// What the log of one module has that the rest of the input may spoil.
void addGoodLog(hid_t file) {
    const std::array<std::string_view, 8> integers{"format_version", "tokens", "blocks",           "block_length",
                                                   "micro_batch",    "ranks",  "threads_per_rank", ""};
    for (const char* name : kNames) {
        const std::string_view wanted = name;
        if (wanted == "x" || wanted == "statistics" || wanted == "sensitivity") continue;
        std::array<unsigned char, 3> bytes{1, 0, 0};                                                   // a text
        if (std::find(integers.begin(), integers.end(), wanted) != integers.end()) bytes = {0, 1, 0};  // a number
        Choices choices({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        addAttribute(file, name, choices);
    }
}

void build(const std::filesystem::path& path, Choices choices) {
    const hdf5::FileObject file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    if (choices.of(2) == 1) addGoodLog(file.id());
    std::vector<hdf5::Group> within;
    while (choices.more()) {
        const hid_t parent = within.empty() ? file.id() : within.back().id();
        const std::size_t action = choices.of(5);
        const char* const name = kNames[choices.of(kNames.size())];
        if (action == 0) {
            hdf5::Group group(H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
            if (group.valid() && within.size() < 8) within.push_back(std::move(group));
        } else if (action == 1 && !within.empty()) {
            within.pop_back();
        } else if (action == 2) {
            addAttribute(parent, name, choices);
        } else if (action == 3) {
            H5Adelete(parent, name);
        } else {
            addDataset(parent, name, choices);
        }
    }
}

/// What is said to hold a sensitivity lies within the file.
void expectPlacesWithin(const std::filesystem::path& path) try {
    const std::uint64_t size = std::filesystem::file_size(path);
    for (const SensitivityPlace& place : readSensitivityPlaces(path)) {
        const auto elements = std::accumulate(place.shape.begin(), place.shape.end(), std::int64_t{1}, std::multiplies<>());
        if (place.begin + sizeof(float) * static_cast<std::uint64_t>(elements) > size) std::abort();
    }
} catch (const InputError&) {  // the rest of the log may be sound
}

}  // namespace

void fuzzOne(std::string_view input) {
    const std::filesystem::path path = fileOf("", "stats.h5");
    {
        const hdf5::SilentErrors silent;
        build(path, Choices(input.substr(0, 1000)));
    }
    expectPlacesWithin(path);
    const StatisticsLog log = readStatisticsLog(path);
    for (const auto& [module, statistics] : log.modules) {
        if (statistics.inconsistency()) std::abort();
        for (const std::vector<float>* values : {&statistics.meanAbs, &statistics.rms, &statistics.maxAbs})
            for (const float value : *values)
                if (!std::isfinite(value) || value < 0) std::abort();
    }
}

}  // namespace aimerge::fuzz
