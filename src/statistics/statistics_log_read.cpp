#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/python_json.h"
#include "aimerge/statistics/statistics_log.h"
#include "statistics/statistics_log_layout.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <system_error>
#include <utility>

namespace aimerge {

using namespace statistics_log;

Digest statistics_log::digestBehindSeal(const File& file) {
    constexpr std::uint64_t kPart = 4 << 20;
    Hasher hasher;
    std::vector<std::byte> part;
    for (std::uint64_t at = kSealBytes, size = file.size(); at < size; at += part.size()) {
        part.resize(std::min(kPart, size - at));
        file.readAt(at, part);
        hasher.update(part);
    }
    return hasher.digest();
}

namespace {

/// HDF5 finds few kinds of damage, and can crash by others. Logs that other programs write have no seal.
void checkSeal(const std::filesystem::path& path) {
    const File file = File::openForReading(path);
    std::string seal(std::min<std::uint64_t>(file.size(), kSealBytes), '\0');
    file.readAt(0, std::as_writable_bytes(std::span(seal)));
    if (!seal.starts_with(kSeal)) return;
    if (seal.size() < kSealBytes || seal.substr(kSeal.size(), 32) != digestBehindSeal(file).hex())
        throw InputError(
            "{}: its checksum does not fit, the log is damaged; calibrate again (or, if it was changed on purpose, take the "
            "checksum off: tail -c +513)",
            path.string());
}

class LogReader {
public:
    explicit LogReader(const std::filesystem::path& path) : path_(path) {
        std::error_code ignored;
        if (!std::filesystem::is_regular_file(path, ignored))
            throw InputError("{}: no such file; expected a statistics log written by `aimerge calibrate`", path.string());
        checkSeal(path);
        if (H5Fis_hdf5(path.c_str()) <= 0)
            throw InputError("{}: not an HDF5 file; expected a statistics log written by `aimerge calibrate`",
                             path.string());
        file_ = hdf5::FileObject(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
        require(file_.valid(), "the file", "opened");
        const auto version = readInteger(file_.id(), "/", kFormatVersionName);
        if (version != kFormatVersion)
            throw InputError("{}: format_version is {}, this version reads {}; calibrate again", path.string(), version,
                             kFormatVersion);
    }

    StatisticsOrigin readOrigin() const {
        StatisticsOrigin origin;
        forEachField(origin, [&](const char* name, auto& field) { readField(name, field); });
        if (H5Aexists(file_.id(), kRevisionName) > 0) origin.revision = readInteger(file_.id(), "/", kRevisionName);
        if (H5Aexists(file_.id(), kMachinesName) > 0) readField(kMachinesName, origin.machines);
        if (H5Lexists(file_.id(), kBaseConfig, H5P_DEFAULT) > 0) origin.baseConfig = readBaseConfig();
        return origin;
    }

    StatisticsByModule readModules() const {
        StatisticsByModule modules;
        for (const std::string& module : namesIn(kStatisticsGroup)) modules.emplace(module, readModule(module));
        if (modules.empty()) throw InputError("{}: {} holds no module; calibrate again", path_.string(), kStatisticsGroup);
        return modules;
    }

    std::vector<SensitivityPlace> readSensitivityPlaces() const {
        std::vector<SensitivityPlace> places;
        if (H5Lexists(file_.id(), kSensitivityGroup, H5P_DEFAULT) <= 0) return places;
        for (std::string& parameter : namesIn(kSensitivityGroup)) places.push_back(readPlace(std::move(parameter)));
        return places;
    }

    std::vector<StageRecord> readTables() const {
        const auto plan = readTable<PlanRow>(kPlanTable, planRowType());
        const auto timing = readTable<TimingRow>(kTimingTable, timingRowType());
        if (plan.size() != timing.size())
            throw InputError("{}: {} has {} rows, {} has {}", path_.string(), kPlanTable, plan.size(), kTimingTable,
                             timing.size());
        std::vector<StageRecord> stages;
        for (std::size_t i = 0; i < plan.size(); ++i)
            stages.push_back({static_cast<int>(plan[i].rank), plan[i].firstLayer, plan[i].lastLayer,
                              timing[i].forwardSeconds, timing[i].waitSeconds, timing[i].readSeconds,
                              timing[i].peakMemoryBytes, timing[i].peakDeviceBytes, timing[i].bytesRead, timing[i].tokens});
        return stages;
    }

private:
    void require(bool done, const std::string& object, const char* what) const {
        if (!done) throw InputError("{}: {} cannot be {}: {}", path_.string(), object, what, hdf5::lastError());
    }

    std::vector<std::string> namesIn(const char* groupName) const {
        const hdf5::Group group(H5Gopen2(file_.id(), groupName, H5P_DEFAULT));
        require(group.valid(), groupName, "opened");
        std::vector<std::string> names;
        const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* result) -> herr_t {
            static_cast<std::vector<std::string>*>(result)->emplace_back(name);
            return 0;
        };
        require(H5Literate(group.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names) >= 0, groupName, "listed");
        return names;
    }

    SensitivityPlace readPlace(std::string parameter) const {
        const std::string object = std::string(kSensitivityGroup) + "/" + parameter;
        const hdf5::Dataset dataset(H5Dopen2(file_.id(), object.c_str(), H5P_DEFAULT));
        require(dataset.valid(), object, "opened");
        const Extent extent = extentOf(dataset);
        const hdf5::Properties creation(H5Dget_create_plist(dataset.id()));
        const hdf5::Type type(H5Dget_type(dataset.id()));
        const haddr_t begin = H5Dget_offset(dataset.id());
        const bool isPlain = H5Pget_layout(creation.id()) == H5D_CONTIGUOUS && H5Tequal(type.id(), H5T_IEEE_F32LE) > 0 &&
                             begin != HADDR_UNDEF && !extent.empty();
        if (!isPlain)
            throw InputError("{}: {} is not stored as contiguous float32 (of h5py: without chunks and compression)",
                             path_.string(), object);
        return {std::move(parameter), {extent.begin(), extent.end()}, begin};
    }

    ModuleStatistics readModule(const std::string& module) const {
        const std::string object = std::string(kStatisticsGroup) + "/" + module;
        const hdf5::Group group(H5Gopen2(file_.id(), object.c_str(), H5P_DEFAULT));
        require(group.valid(), object, "opened");
        ModuleStatistics statistics;
        Table<float> mean = readStatistic(object, Statistic::MeanAbs);
        const Extent extent = mean.extent;
        const auto likeMean = [&](Statistic statistic) {
            Table<float> table = readStatistic(object, statistic);
            if (table.extent != extent)
                throw InputError("{}: {}: {} has shape {}, {} {}; they must agree", path_.string(), object,
                                 statisticName(Statistic::MeanAbs), extentText(extent), statisticName(statistic),
                                 extentText(table.extent));
            return std::move(table.rows);
        };
        statistics.meanAbs = std::move(mean.rows);
        statistics.rms = likeMean(Statistic::Rms);
        statistics.maxAbs = likeMean(Statistic::MaxAbs);
        statistics.inputAxis = readInputAxis(group.id(), object);
        if (extent.size() == 1) {
            statistics.tokens = readInteger(group.id(), object, kTokensAttribute);
        } else {
            statistics.experts = static_cast<std::int64_t>(extent.front());
            statistics.expertTokens = readIntegers(group.id(), object, kTokensAttribute, extent.front());
        }
        if (const auto fault = statistics.inconsistency()) throw InputError("{}: {}: {}", path_.string(), object, *fault);
        if (!statistics.isFused()) return statistics;
        statistics.tokens = std::accumulate(statistics.expertTokens.begin(), statistics.expertTokens.end(), std::int64_t{0});
        requireZerosWithoutTokens(object, statistics);
        return statistics;
    }

    using Extent = std::vector<hsize_t>;

    template <typename Row>
    struct Table {
        Extent extent;
        std::vector<Row> rows;  // of the last axis, one after the other
    };

    static Extent extentOf(const hdf5::Dataset& dataset) {
        const hdf5::Space space(H5Dget_space(dataset.id()));
        Extent extent(static_cast<std::size_t>(std::max(0, H5Sget_simple_extent_ndims(space.id()))));
        H5Sget_simple_extent_dims(space.id(), extent.data(), nullptr);
        return extent;
    }

    static std::string extentText(const Extent& extent) { return fmt::format("[{}]", fmt::join(extent, ", ")); }

    Table<float> readStatistic(const std::string& moduleObject, Statistic statistic) const {
        const std::string object = moduleObject + "/" + std::string(statisticName(statistic));
        Table<float> table = readRows<float>(object, hdf5::Type(H5Tcopy(H5T_NATIVE_FLOAT)));
        const bool isFused = table.extent.size() == 2;
        if (isFused ? table.rows.empty() : table.extent.size() != 1)
            throw InputError("{}: {} has shape {}, expected [in_features], or [experts, in_features] of fused experts",
                             path_.string(), object, extentText(table.extent));
        const auto bad =
            std::find_if(table.rows.begin(), table.rows.end(), [](float v) { return !(v >= 0) || std::isinf(v); });
        if (bad == table.rows.end()) return table;
        const auto channels = static_cast<std::ptrdiff_t>(table.extent.back());
        const std::ptrdiff_t index = bad - table.rows.begin();
        throw InputError("{}: {}: value {} of {}channel {}; a statistic is finite and not negative", path_.string(), object,
                         *bad, isFused ? fmt::format("expert {}, ", index / channels) : "", index % channels);
    }

    /// @pre no inconsistency
    void requireZerosWithoutTokens(const std::string& object, const ModuleStatistics& statistics) const {
        const std::size_t channels = statistics.channels();
        for (std::size_t expert = 0; expert < statistics.expertTokens.size(); ++expert) {
            if (statistics.expertTokens[expert] > 0) continue;
            for (const Statistic statistic : kStatistics) {
                const auto row = std::span(statistics.values(statistic)).subspan(expert * channels, channels);
                if (std::ranges::any_of(row, [](float value) { return value != 0; }))
                    throw InputError("{}: {}/{}: tokens of expert {} is 0, its values are not", path_.string(), object,
                                     statisticName(statistic), expert);
            }
        }
    }

    int readInputAxis(hid_t group, const std::string& object) const {
        if (H5Aexists(group, kInputAxisAttribute) <= 0) return -1;
        const std::int64_t axis = readInteger(group, object, kInputAxisAttribute);
        if (axis != -1 && axis != -2)
            throw InputError("{}: {}: input_axis is {}, expected -1 (the default) or -2", path_.string(), object, axis);
        return static_cast<int>(axis);
    }

    std::string readBaseConfig() const {
        const hdf5::Dataset dataset(H5Dopen2(file_.id(), kBaseConfig, H5P_DEFAULT));
        require(dataset.valid(), kBaseConfig, "opened");
        const hdf5::Space space(H5Dget_space(dataset.id()));
        if (H5Sget_simple_extent_type(space.id()) != H5S_SCALAR)
            throw InputError("{}: {} is no single text", path_.string(), kBaseConfig);
        const hdf5::Type type = textType();
        char* characters = nullptr;
        require(H5Dread(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &characters) >= 0, kBaseConfig,
                "read as text");
        std::string text = characters ? characters : "";
        H5free_memory(characters);
        if (!nlohmann::json::parse(quoteNonFinite(text), nullptr, false).is_object())
            throw InputError("{}: {} is not the text of a config.json: no JSON object", path_.string(), kBaseConfig);
        return text;
    }

    template <typename Row>
    std::vector<Row> readTable(const char* object, const hdf5::Type& memoryType) const {
        Table<Row> table = readRows<Row>(object, memoryType);
        if (table.extent.size() != 1)
            throw InputError("{}: {} has {} dimensions, expected 1", path_.string(), object, table.extent.size());
        return std::move(table.rows);
    }

    /// A dataset of any shape, converted by HDF5 to `memoryType`.
    template <typename Row>
    Table<Row> readRows(const std::string& object, const hdf5::Type& memoryType) const {
        const hdf5::Dataset dataset(H5Dopen2(file_.id(), object.c_str(), H5P_DEFAULT));
        require(dataset.valid(), object, "opened");
        Table<Row> table{extentOf(dataset), {}};
        // A damaged extent must not ask for more memory than the stored bytes can fill.
        const hsize_t stored = H5Dget_storage_size(dataset.id());
        hsize_t elements = 1;
        for (const hsize_t length : table.extent) {
            if (length != 0 && elements > stored / length)
                throw InputError("{}: {} claims shape {}, more than its stored bytes hold", path_.string(), object,
                                 extentText(table.extent));
            elements *= length;
        }
        table.rows.resize(elements);  // one where there is no shape
        require(H5Dread(dataset.id(), memoryType.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, table.rows.data()) >= 0, object,
                "read");
        return table;
    }

    /// @param count of its values
    hdf5::Attribute openAttribute(hid_t owner, const std::string& object, const char* name, hsize_t count = 1) const {
        hdf5::Attribute attribute(H5Aopen(owner, name, H5P_DEFAULT));
        const std::string what = "attribute " + std::string(name) + " of " + object;
        require(attribute.valid(), what, "opened");
        const hdf5::Space space(H5Aget_space(attribute.id()));
        const hssize_t values = H5Sget_simple_extent_npoints(space.id());
        if (!std::cmp_equal(values, count))
            throw InputError("{}: {} has {} values, expected {}", path_.string(), what, values,
                             count == 1 ? "one" : std::to_string(count));
        return attribute;
    }

    std::int64_t readInteger(hid_t owner, const std::string& object, const char* name) const {
        return readIntegers(owner, object, name, 1).front();
    }

    std::vector<std::int64_t> readIntegers(hid_t owner, const std::string& object, const char* name, hsize_t count) const {
        const hdf5::Attribute attribute = openAttribute(owner, object, name, count);
        std::vector<std::int64_t> values(count);
        require(H5Aread(attribute.id(), H5T_NATIVE_INT64, values.data()) >= 0,
                "attribute " + std::string(name) + " of " + object, "read as an integer");
        return values;
    }

    void readField(const char* name, std::int64_t& field) const { field = readInteger(file_.id(), "/", name); }

    void readField(const char* name, int& field) const {
        const std::int64_t value = readInteger(file_.id(), "/", name);
        if (value < 0 || value > std::numeric_limits<int>::max())
            throw InputError("{}: attribute {} is {}, expected a count", path_.string(), name, value);
        field = static_cast<int>(value);
    }

    void readField(const char* name, std::string& field) const {
        const hdf5::Attribute attribute = openAttribute(file_.id(), "/", name);
        const hdf5::Type type = textType();
        char* characters = nullptr;
        require(H5Aread(attribute.id(), type.id(), &characters) >= 0, "attribute " + std::string(name) + " of /",
                "read as text");
        field = characters ? characters : "";
        H5free_memory(characters);
    }

    std::filesystem::path path_;
    hdf5::FileObject file_;
};

}  // namespace

StatisticsLog readStatisticsLog(const std::filesystem::path& path) {
    const hdf5::SilentErrors silent;
    const LogReader reader(path);
    return {reader.readOrigin(), reader.readModules(), reader.readTables()};
}

std::vector<SensitivityPlace> readSensitivityPlaces(const std::filesystem::path& path) {
    const hdf5::SilentErrors silent;
    return LogReader(path).readSensitivityPlaces();
}

StatisticsOrigin readStatisticsOrigin(const std::filesystem::path& path) {
    const hdf5::SilentErrors silent;
    return LogReader(path).readOrigin();
}

}  // namespace aimerge
