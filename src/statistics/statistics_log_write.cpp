#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/statistics/statistics_log.h"
#include "statistics/statistics_log_layout.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace aimerge {
namespace {

using namespace statistics_log;

/// HDF5 does not report a write that fails while it closes a dataset. So small files are assembled in memory, and large ones
/// are written without HDF5's own buffer.
enum class Storage { Memory, File };

class LogWriter {
public:
    /// @param path the file that is written; for messages alone, when it is in memory
    LogWriter(const std::filesystem::path& path, Storage storage) : path_(path) {
        const hdf5::Properties access(H5Pcreate(H5P_FILE_ACCESS)), creation(H5Pcreate(H5P_FILE_CREATE));
        if (storage == Storage::Memory) {
            constexpr std::size_t kGrowth = 1 << 20;
            require(H5Pset_fapl_core(access.id(), kGrowth, false) >= 0, "a property", "set");
        } else {
            require(H5Pset_sieve_buf_size(access.id(), 0) >= 0, "a property", "set");
            require(H5Pset_userblock(creation.id(), kSealBytes) >= 0, "a property", "set");
        }
        file_ = hdf5::FileObject(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.id(), access.id()));
        require(file_.valid(), "the file", "created");
        // Equal statistics give equal bytes, whenever they are written.
        datasetCreation_ = hdf5::Properties(H5Pcreate(H5P_DATASET_CREATE));
        require(H5Pset_obj_track_times(datasetCreation_.id(), false) >= 0, "a property", "set");
    }

    void writeOrigin(const StatisticsOrigin& origin) {
        writeAttribute(file_.id(), "/", kFormatVersionName, kFormatVersion);
        forEachField(origin, [&](const char* name, const auto& value) { writeAttribute(file_.id(), "/", name, value); });
        if (origin.revision != 0) writeAttribute(file_.id(), "/", kRevisionName, origin.revision);
        if (!origin.machines.empty()) writeAttribute(file_.id(), "/", kMachinesName, origin.machines);
        if (!origin.baseConfig.empty()) writeText(kBaseConfig, origin.baseConfig);
    }

    void writeModules(const StatisticsByModule& modules) {
        const hdf5::Group all = createGroup(file_.id(), kStatisticsGroup);
        for (const auto& [module, statistics] : modules) {
            const std::string object = std::string(kStatisticsGroup) + "/" + module;
            if (const auto fault = statistics.inconsistency()) throw std::logic_error(fmt::format("{}: {}", module, *fault));
            const hdf5::Group group = createGroup(file_.id(), object);
            if (statistics.isFused())
                writeAttribute(group.id(), object, kTokensAttribute, std::span<const std::int64_t>(statistics.expertTokens));
            else
                writeAttribute(group.id(), object, kTokensAttribute, statistics.tokens);
            if (statistics.inputAxis != -1) writeAttribute(group.id(), object, kInputAxisAttribute, statistics.inputAxis);
            std::vector<hsize_t> extent{statistics.channels()};
            if (statistics.isFused()) extent.insert(extent.begin(), static_cast<hsize_t>(statistics.experts));
            for (const Statistic statistic : kStatistics) {
                const std::string name = object + "/" + std::string(statisticName(statistic));
                writeDataset(name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, extent, statistics.values(statistic).data());
            }
        }
    }

    void writeTables(const std::vector<StageRecord>& stages) {
        std::vector<PlanRow> plan;
        std::vector<TimingRow> timing;
        for (const StageRecord& stage : stages) {
            plan.push_back({stage.rank, stage.firstLayer, stage.lastLayer});
            timing.push_back({stage.rank, stage.forwardSeconds, stage.waitSeconds, stage.readSeconds, stage.peakMemoryBytes,
                              stage.peakDeviceBytes, stage.bytesRead, stage.tokens});
        }
        const hdf5::Type planType = planRowType(), timingType = timingRowType();
        writeDataset(kPlanTable, planType.id(), planType.id(), {plan.size()}, plan.data());
        writeDataset(kTimingTable, timingType.id(), timingType.id(), {timing.size()}, timing.data());
    }

    void writeSensitivity(std::span<const SensitivityValues> sensitivity) {
        const hdf5::Group all = createGroup(file_.id(), kSensitivityGroup);
        for (const SensitivityValues& values : sensitivity) writeValues(values);
    }

    void flush() const { require(H5Fflush(file_.id(), H5F_SCOPE_GLOBAL) >= 0, "the file", "completed"); }

    /// The whole file. @pre in memory
    std::string image() const {
        flush();
        const ssize_t bytes = H5Fget_file_image(file_.id(), nullptr, 0);
        require(bytes > 0, "the file", "completed");
        std::string image(static_cast<std::size_t>(bytes), '\0');
        require(H5Fget_file_image(file_.id(), image.data(), image.size()) == bytes, "the file", "completed");
        return image;
    }

private:
    void require(bool done, const std::string& object, const char* what) const {
        if (!done) throw RuntimeFault("{}: {} cannot be {}: {}", path_.string(), object, what, hdf5::lastError());
    }

    hdf5::Group createGroup(hid_t parent, const std::string& name) const {
        hdf5::Group group(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        require(group.valid(), name, "created");
        return group;
    }

    hdf5::Dataset createDataset(const std::string& name, hid_t fileType, const hdf5::Space& space) const {
        hdf5::Dataset dataset(
            H5Dcreate2(file_.id(), name.c_str(), fileType, space.id(), H5P_DEFAULT, datasetCreation_.id(), H5P_DEFAULT));
        require(dataset.valid(), name, "created");
        return dataset;
    }

    void writeDataset(const std::string& name, hid_t fileType, hid_t memoryType, const std::vector<hsize_t>& extent,
                      const void* values) const {
        const hdf5::Space space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
        const hdf5::Dataset dataset = createDataset(name, fileType, space);
        require(H5Dwrite(dataset.id(), memoryType, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, name, "written");
    }

    void writeText(const std::string& name, const std::string& text) const {
        const hdf5::Type type = textType();
        const hdf5::Space space(H5Screate(H5S_SCALAR));
        const hdf5::Dataset dataset = createDataset(name, type.id(), space);
        const char* characters = text.c_str();
        require(H5Dwrite(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &characters) >= 0, name, "written");
    }

    /// Some rows at a time.
    void writeValues(const SensitivityValues& values) {
        constexpr hsize_t kMostElements = 1 << 20;
        const std::string name = std::string(kSensitivityGroup) + "/" + values.parameter;
        const std::vector<hsize_t> extent(values.shape.begin(), values.shape.end());
        const int axes = static_cast<int>(extent.size());
        const hdf5::Space space(H5Screate_simple(axes, extent.data(), nullptr));
        const hdf5::Dataset dataset = createDataset(name, H5T_IEEE_F32LE, space);

        const hsize_t rowElements = std::accumulate(extent.begin() + 1, extent.end(), hsize_t{1}, std::multiplies<>());
        const hsize_t rowsAtOnce = std::max<hsize_t>(1, kMostElements / rowElements);
        for (hsize_t row = 0; row < extent[0]; row += rowsAtOnce) {
            std::vector<hsize_t> begin(extent.size()), part = extent;
            begin[0] = row;
            part[0] = std::min(rowsAtOnce, extent[0] - row);
            buffer_.resize(part[0] * rowElements);
            values.read(static_cast<std::int64_t>(row * rowElements), buffer_);
            const hdf5::Space memory(H5Screate_simple(axes, part.data(), nullptr));
            require(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, begin.data(), nullptr, part.data(), nullptr) >= 0, name,
                    "written");
            require(H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, memory.id(), space.id(), H5P_DEFAULT, buffer_.data()) >= 0,
                    name, "written");
        }
    }

    void writeAttribute(hid_t owner, const std::string& object, const char* name, const std::string& text) const {
        const hdf5::Type type = textType();
        const char* characters = text.c_str();
        writeAttributeAs(owner, object, name, type.id(), type.id(), hdf5::Space(H5Screate(H5S_SCALAR)), &characters);
    }

    void writeAttribute(hid_t owner, const std::string& object, const char* name, std::int64_t value) const {
        writeAttributeAs(owner, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, hdf5::Space(H5Screate(H5S_SCALAR)), &value);
    }

    void writeAttribute(hid_t owner, const std::string& object, const char* name,
                        std::span<const std::int64_t> values) const {
        const hsize_t extent = values.size();
        writeAttributeAs(owner, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                         hdf5::Space(H5Screate_simple(1, &extent, nullptr)), values.data());
    }

    void writeAttributeAs(hid_t owner, const std::string& object, const char* name, hid_t fileType, hid_t memoryType,
                          const hdf5::Space& space, const void* values) const {
        const std::string what = "attribute " + std::string(name) + " of " + object;
        const hdf5::Attribute attribute(H5Acreate2(owner, name, fileType, space.id(), H5P_DEFAULT, H5P_DEFAULT));
        require(attribute.valid(), what, "created");
        require(H5Awrite(attribute.id(), memoryType, values) >= 0, what, "written");
    }

    std::filesystem::path path_;
    hdf5::FileObject file_;
    hdf5::Properties datasetCreation_;
    std::vector<float> buffer_;
};

void writeSmallParts(LogWriter& writer, const StatisticsLog& log) {
    writer.writeOrigin(log.origin);
    writer.writeModules(log.modules);
    writer.writeTables(log.stages);
}

/// The block before the HDF5 file that tells damage.
std::string sealOf(const Digest& digest) {
    std::string seal = std::string(kSeal) + digest.hex() + "\n";
    seal.resize(kSealBytes);
    return seal;
}

}  // namespace

void writeStatisticsLog(const std::filesystem::path& path, const StatisticsLog& log,
                        std::span<const SensitivityValues> sensitivity) {
    const hdf5::SilentErrors silent;
    if (sensitivity.empty()) {
        LogWriter writer(path, Storage::Memory);
        writeSmallParts(writer, log);
        const std::string image = writer.image();
        return writeTextFile(path, sealOf(digestOf(image)) + image);
    }
    replaceFile(path, [&](File& file) {
        {
            LogWriter writer(file.path(), Storage::File);
            writeSmallParts(writer, log);
            writer.writeSensitivity(sensitivity);
            writer.flush();
        }
        const std::string seal = sealOf(digestBehindSeal(file));
        file.writeAt(0, std::as_bytes(std::span(seal)));
    });
}

}  // namespace aimerge
