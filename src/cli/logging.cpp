#include "cli/logging.h"

#include "aimerge/core/error.h"
#include "aimerge/core/host_name.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <filesystem>

namespace aimerge {
namespace {

constexpr const char* kFileLogger = "aimerge file";

/// `text` inside a pattern of spdlog.
std::string literally(std::string text) {
    for (std::size_t at = 0; (at = text.find('%', at)) != std::string::npos; at += 2) text.insert(at, 1, '%');
    return text;
}

}  // namespace

void startLogging(const World& world, const Options& options) {
    const auto terminal = std::make_shared<spdlog::sinks::stderr_color_sink_st>();
    terminal->set_pattern(world.size() > 1 ? fmt::format("[{}] %^%l%$: %v", world.rank()) : "%^%l%$: %v");
    // Rank 0 speaks; what another rank has to say beyond errors is about its own share of the same work.
    terminal->set_level(world.isRoot() ? spdlog::level::from_str(options.logLevel) : spdlog::level::err);
    const auto log = std::make_shared<spdlog::logger>("aimerge", terminal);
    log->set_level(terminal->level());
    spdlog::set_error_handler(
        [](const std::string&) {});  // what a full disk or a closed descriptor does not take is dropped
    spdlog::set_default_logger(log);
}

void startLogFile(const World& world, const Options& options) {
    if (options.logDirectory.empty()) return;
    try {
        std::filesystem::create_directories(options.logDirectory);
        const auto path = std::filesystem::path(options.logDirectory) / fmt::format("rank-{:04}.log", world.rank());
        const auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
        file->set_pattern(fmt::format("%Y-%m-%dT%H:%M:%S.%e%z [rank {} of {}, {}, {}] %l: %v", world.rank(), world.size(),
                                      literally(hostName()), literally(options.computesOn.name)));
        const auto log = spdlog::default_logger();
        log->sinks().push_back(file);
        log->set_level(spdlog::level::debug);
        log->flush_on(spdlog::level::debug);
        spdlog::register_logger(std::make_shared<spdlog::logger>(kFileLogger, file));
    } catch (const std::exception& cause) {  // of std::filesystem or spdlog
        throw RuntimeFault("--log-dir {}: {}", options.logDirectory, cause.what());
    }
}

void logEnd(const std::string& line) {
    const auto file = spdlog::get(kFileLogger);
    if (!file) return;
    file->info(line);
    file->flush();
}

}  // namespace aimerge
