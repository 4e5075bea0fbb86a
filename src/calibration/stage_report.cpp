#include "calibration/stage_report.h"

#include "aimerge/core/error.h"

#include <cstring>
#include <type_traits>

namespace aimerge {
namespace {

class Writer {
public:
    template <typename T>
    void put(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    void put(const std::vector<float>& values) {
        put(values.size());
        bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    }
    std::string take() { return std::move(bytes_); }

private:
    std::string bytes_;
};

class Reader {
public:
    explicit Reader(const std::string& bytes) : bytes_(bytes) {}

    template <typename T>
    void get(T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        copy(&value, sizeof value);
    }
    void get(std::vector<float>& values) {
        std::size_t count = 0;
        get(count);
        if (count > bytes_.size()) throw RuntimeFault("statistics of a rank arrived damaged");
        values.resize(count);
        copy(values.data(), count * sizeof(float));
    }

private:
    void copy(void* to, std::size_t size) {
        if (size > bytes_.size() - position_) throw RuntimeFault("statistics of a rank arrived damaged");
        std::memcpy(to, bytes_.data() + position_, size);
        position_ += size;
    }

    const std::string& bytes_;
    std::size_t position_ = 0;
};

}  // namespace

std::string StageReport::toBytes() const {
    Writer out;
    out.put(record);
    out.put(statistics.size());
    for (const auto& [key, values] : statistics) {
        out.put(key);
        out.put(values.tokens);
        out.put(values.meanAbs);
        out.put(values.rms);
        out.put(values.maxAbs);
    }
    return out.take();
}

StageReport StageReport::fromBytes(const std::string& bytes) {
    Reader in(bytes);
    StageReport report;
    in.get(report.record);
    std::size_t points = 0;
    in.get(points);
    for (std::size_t i = 0; i < points; ++i) {
        ObservedPoint key{};
        ModuleStatistics values;
        in.get(key);
        in.get(values.tokens);
        in.get(values.meanAbs);
        in.get(values.rms);
        in.get(values.maxAbs);
        report.statistics.emplace(key, std::move(values));
    }
    return report;
}

}  // namespace aimerge
