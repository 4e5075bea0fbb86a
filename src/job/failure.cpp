#include "aimerge/job/failure.h"

#include <filesystem>
#include <new>

namespace aimerge {
namespace {

/// "PATH: No such file or directory": what a look at a path came to.
std::string textOf(const std::filesystem::filesystem_error& error) {
    const std::string path = error.path1().empty() ? "the working folder" : error.path1().string();
    return fmt::format("{}: cannot be looked at: {}", path, error.code().message());
}

}  // namespace

Failure failureOf(const std::exception& error) {
    if (const auto* known = dynamic_cast<const Error*>(&error)) return {known->exitCode(), known->what()};
    if (dynamic_cast<const std::bad_alloc*>(&error))
        return {ExitCode::Fault, "out of memory; set a smaller --memory-limit or use more ranks"};
    if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
        return {ExitCode::Fault, textOf(*file)};
    return {ExitCode::Fault, fmt::format("unexpected fault: {}", error.what())};
}

void requireWhole(const std::string& folder, const VerifyReport& report) {
    if (report.whole()) return;
    throw DamageFound("{}: {} {} found", folder, report.findings.size(), report.findings.size() == 1 ? "fault" : "faults");
}

void requireNoFailedPoints(const SweepConfig& config, const SweepOutcome& outcome, bool dryRun) {
    if (outcome.failed == 0) return;
    if (dryRun)
        throw InputError("{}: {} of {} points cannot be made, for the reasons above", config.directory, outcome.failed,
                         outcome.tried);
    throw RuntimeFault("{}: {} of {} points failed, see the column `error` of points.csv; the others are done",
                       config.directory, outcome.failed, outcome.tried);
}

}  // namespace aimerge
