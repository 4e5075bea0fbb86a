#include "python/log_lines.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <utility>

namespace aimerge {
namespace {

class Lines : public spdlog::sinks::base_sink<std::mutex> {
public:
    std::vector<LogLine> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(lines_, {});
    }

private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        const auto level = spdlog::level::to_string_view(message.level);
        lines_.push_back({{level.data(), level.size()}, {message.payload.data(), message.payload.size()}});
    }
    void flush_() override {}

    std::vector<LogLine> lines_;
};

const std::shared_ptr<Lines>& lines() {
    static const auto sink = std::make_shared<Lines>();
    return sink;
}

}  // namespace

void keepLogLines(spdlog::level::level_enum level) {
    static std::once_flag isSet;
    std::call_once(isSet, [] { spdlog::set_default_logger(std::make_shared<spdlog::logger>("aimerge", lines())); });
    spdlog::set_level(level);
}

std::vector<LogLine> takeLogLines() {
    return lines()->take();
}

}  // namespace aimerge
