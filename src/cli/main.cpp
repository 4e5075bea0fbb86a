// aimerge: the command line. Every rank runs the same command; rank 0 speaks, and errors that nobody handled end here.

#include "cli/bad_command_line.h"
#include "cli/logging.h"
#include "cli/options.h"

#include "aimerge/core/error.h"
#include "aimerge/core/standard_streams.h"
#include "aimerge/core/version.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/job_summary.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/failure.h"
#include "aimerge/job/same_on_all_ranks.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

using namespace aimerge;

namespace {

constexpr std::array kCommands = {&kPlanCommand,    &kCalibrateCommand, &kMergeCommand,    &kRelaxCommand,
                                  &kFeatcalCommand, &kSweepCommand,     &kEvaluateCommand, &kReportCommand,
                                  &kInspectCommand, &kVerifyCommand,    &kMethodsCommand};

/// What the command line asks for.
struct Request {
    const Command* command = nullptr;
    bool computes = false;  // the command takes --device
    Options options;
    int exitCode = 0;  // of a command line that asks for no command: 0 after --help and --version
};

/// Help with no line above 100 columns; CLI11 2.1 does not wrap descriptions.
class HelpFormatter : public CLI::Formatter {
    std::string make_option_desc(const CLI::Option* option) const override {
        const std::string& text = option->get_description();
        const std::size_t width = 100 - get_column_width();
        std::string lines;
        std::size_t begin = 0;
        while (text.size() - begin > width) {
            const std::size_t blank = text.rfind(' ', begin + width);
            if (blank == std::string::npos || blank <= begin) break;  // a longer word
            lines += text.substr(begin, blank - begin) + '\n';
            begin = blank + 1;
        }
        return lines + text.substr(begin);
    }
};

/// Collective. What the job took: a table on rank 0's standard error, with --json an object on its standard output.
void tellWhatItTook(World& world, const Options& options) {
    std::vector<RankRecord> ranks;
    for (const std::string& record :
         world.gather(recordOfThisRank(options.computesOn.name, threadsPerRank(world, options)).toJson()))
        ranks.push_back(RankRecord::fromJson(record));
    if (!world.isRoot()) return;
    if (spdlog::should_log(spdlog::level::info)) tellUser("{}", summaryTable(ranks));
    if (options.timesAsJson) fmt::print("{}\n", summaryJson(ranks).dump(2));
}

/// The end of a rank whose own work failed.
int fail(World& world, ExitCode code, const std::string& message) {
    if (world.isRoot()) tellUser("aimerge: {}\n", message);
    logEnd(message);
    world.reportFailure(static_cast<int>(code), message);
    return static_cast<int>(code);
}

/// Runs the chosen command; the code this rank ends with.
int run(World& world, Request& request) {
    Options& options = request.options;
    try {
        if (request.computes) {
            options.computesOn = chooseDevice(world, options);
            startLogFile(world, options);
            spdlog::debug("{}", commandLine());
        }
        requireSameStart(world);
        request.command->run(world, options);
        if (request.computes) tellWhatItTook(world, options);
        flushStandardOutput();
        logEnd("done");
        return static_cast<int>(ExitCode::Done);
    } catch (const PeerFailed& failure) {
        const std::string message = fmt::format("{} (rank {})", failure.message(), failure.rank());
        if (world.isRoot()) tellUser("aimerge: {}\n", message);
        logEnd(message);
        return failure.exitCode();
    } catch (const std::exception& error) {
        if (std::ferror(stdout) != 0 && !dynamic_cast<const Error*>(&error))
            return fail(world, ExitCode::Fault, fmt::format("standard output: {}", error.what()));
        const Failure failure = failureOf(error);
        return fail(world, failure.code, failure.message);
    }
}

Request parseCommandLine(int argc, char** argv, bool speaks) {
    Request request;
    CLI::App app{
        "aimerge merges fine-tuned language models with Activation-Informed Merging.\n"
        "Start it alone, or on several ranks with mpirun or srun:\n"
        "  mpirun -n 4 aimerge merge configs/smollm2-ties-aim.yaml --out merged/",
        "aimerge"};
    app.formatter(std::make_shared<HelpFormatter>());
    app.set_version_flag("--version", fmt::format("aimerge {}", kVersion));
    app.require_subcommand(1);
    for (const Command* command : kCommands) {
        CLI::App* sub = app.add_subcommand(command->name, command->summary);
        sub->footer(fmt::format("Example:\n  {}", command->example));
        command->declare(*sub, request.options);
        declareCommonOptions(*sub, request.options);
        sub->callback([&request, command, sub] {
            request.command = command;
            request.computes = sub->get_option_no_throw("--device") != nullptr;
        });
    }
    app.footer(
        "Exit codes: 0 done; 2 bad usage or config; 3 bad input; 4 a fault while running;\n"
        "6 verify found damage; 75 interrupted, run the same command again to continue.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;
        if (speaks && asked) app.exit(error);
        if (speaks && !asked) tellUser("aimerge: {}\n", oneLine(whatIsWrong(app, error)));
        request.command = nullptr;
        request.exitCode = asked ? 0 : static_cast<int>(ExitCode::Usage);
    }
    return request;
}

int runJob(int argc, char** argv) {
    World world(argc, argv);
    Request request = parseCommandLine(argc, argv, world.isRoot());
    if (!request.command) return world.leave(request.exitCode);
    startLogging(world, request.options);
    return world.leave(run(world, request));
}

}  // namespace

int main(int argc, char** argv) {
    openStandardStreams();
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // in a file that takes both, results and log keep their order
    installInterruptionHandlers();
    try {
        return runJob(argc, argv);
    } catch (const Error& error) {  // the ranks could not be brought together: there is nobody to tell
        tellUser("aimerge: {}\n", error.what());
        return static_cast<int>(error.exitCode());
    }
}
