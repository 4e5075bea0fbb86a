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
    template <typename T>
    void put(const std::vector<T>& values) {
        put(values.size());
        bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
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
    template <typename T>
    void get(std::vector<T>& values) {
        std::size_t count = 0;
        get(count);
        if (count > bytes_.size()) throw RuntimeFault("statistics of a rank arrived damaged");
        values.resize(count);
        copy(values.data(), count * sizeof(T));
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
    out.put(sums.size());
    for (const auto& [key, parts] : sums) {
        out.put(key);
        out.put(parts.size());
        for (const ChannelSums& part : parts) {
            out.put(part.rows);
            out.put(part.sumAbs);
            out.put(part.sumSquares);
            out.put(part.maxAbs);
        }
    }
    return out.take();
}

StageReport StageReport::fromBytes(const std::string& bytes) {
    Reader in(bytes);
    StageReport report;
    in.get(report.record);
    std::size_t inputs = 0;
    in.get(inputs);
    for (std::size_t i = 0; i < inputs; ++i) {
        ModuleInput key;
        std::size_t parts = 0;
        in.get(key);
        in.get(parts);
        for (std::size_t p = 0; p < parts; ++p) {
            ChannelSums& part = report.sums[key].emplace_back(0);
            in.get(part.rows);
            in.get(part.sumAbs);
            in.get(part.sumSquares);
            in.get(part.maxAbs);
        }
    }
    return report;
}

}  // namespace aimerge
