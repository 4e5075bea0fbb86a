// aimerge verify DIR: is a checkpoint folder whole and unchanged? Findings go to standard output, the exit code is 6 when
// there are any.

#include "cli/options.h"

#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/failure.h"
#include "aimerge/output/verify.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

void declareVerify(CLI::App& app, Options& options) {
    app.add_option("folder", options.subject, "Checkpoint folder, or a folder of omega-* folders")->required();
    app.add_option("--threads", options.threads, "Threads (default: all CPUs)")->check(CLI::Range(1, 1024));
    app.add_flag("--json", options.json, "Print JSON to standard output");
    app.add_flag("--dry-run", options.dryRun, "Only say what would be read");
}

void printJson(const VerifyReport& report) {
    nlohmann::ordered_json findings = nlohmann::ordered_json::array();
    for (const Finding& finding : report.findings) {
        nlohmann::ordered_json entry{{"file", finding.file}, {"tensor", finding.tensor}, {"text", finding.text}};
        if (finding.bytes) entry["bytes"] = {finding.bytes->begin, finding.bytes->end};
        findings.push_back(std::move(entry));
    }
    const nlohmann::ordered_json json{{"whole", report.whole()}, {"files", report.files}, {"tensors", report.tensors},
                                      {"bytes", report.bytes},   {"findings", findings},  {"notices", report.notices}};
    fmt::print("{}\n", json.dump(2));
}

void printText(const VerifyReport& report, const std::string& folder) {
    for (const std::string& notice : report.notices) spdlog::info("{}", notice);
    for (const Finding& finding : report.findings) fmt::print("{}\n", finding.text);
    if (report.whole()) {
        fmt::print("{}: whole; {} files, {} tensors, {} checked\n", folder, report.files, report.tensors,
                   formatBytes(report.bytes));
    }
}

void runVerify(World& world, const Options& options) {
    if (!world.isRoot()) return;
    if (options.dryRun) {
        fmt::print("would read every file of {}\n", options.subject);
        return;
    }
    const VerifyReport report = verify(options.subject, threadsPerRank(world, options));
    options.json ? printJson(report) : printText(report, options.subject);
    requireWhole(options.subject, report);
}

}  // namespace

const Command kVerifyCommand{"verify", "Check a checkpoint folder: checksums, format rules, index", "aimerge verify merged/",
                             declareVerify, runVerify};

}  // namespace aimerge
