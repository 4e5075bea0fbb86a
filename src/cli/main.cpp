// aimerge: the command line. Every rank runs the same command; rank 0 speaks, and errors are caught here and nowhere else.

#include "cli/options.h"

#include "aimerge/core/error.h"
#include "aimerge/core/version.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/world.h"

#include <fmt/core.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <new>

using namespace aimerge;

namespace {

constexpr std::array kCommands = {&kPlanCommand,   &kCalibrateCommand, &kMergeCommand,  &kSweepCommand,  &kEvaluateCommand,
                                  &kReportCommand, &kInspectCommand,   &kVerifyCommand, &kMethodsCommand};

void startLogging(const World& world, const std::string& level) {
    auto log = spdlog::stderr_color_st("aimerge");
    log->set_pattern(world.size() > 1 ? fmt::format("[{}] %^%l%$: %v", world.rank()) : "%^%l%$: %v");
    // Rank 0 speaks; what another rank has to say beyond errors is about its own share of the same work.
    log->set_level(world.isRoot() ? spdlog::level::from_str(level) : spdlog::level::err);
    spdlog::set_default_logger(std::move(log));
}

/// What the command line asks for.
struct Request {
    const Command* command = nullptr;
    bool computes = false;  // the command takes --device
    Options options;
    int exitCode = 0;  // of a command line that asks for no command: 0 after --help and --version
};

/// Runs the chosen command; the code this rank ends with.
int run(World& world, Request& request) {
    try {
        if (request.computes) request.options.computesOn = chooseDevice(world, request.options);
        request.command->run(world, request.options);
        return static_cast<int>(ExitCode::Done);
    } catch (const PeerFailed& failure) {
        if (world.isRoot()) fmt::print(stderr, "aimerge: {} (rank {})\n", failure.message(), failure.rank());
        return failure.exitCode();
    } catch (const Error& error) {
        const int code = static_cast<int>(error.exitCode());
        if (world.isRoot()) fmt::print(stderr, "aimerge: {}\n", error.what());
        world.reportFailure(code, error.what());
        return code;
    } catch (const std::bad_alloc&) {
        const std::string message = "out of memory; set a smaller --memory-limit or use more ranks";
        if (world.isRoot()) fmt::print(stderr, "aimerge: {}\n", message);
        world.reportFailure(static_cast<int>(ExitCode::Fault), message);
        return static_cast<int>(ExitCode::Fault);
    } catch (const std::exception& error) {
        const std::string message = fmt::format("unexpected fault: {}", error.what());
        if (world.isRoot()) fmt::print(stderr, "aimerge: {}\n", message);
        world.reportFailure(static_cast<int>(ExitCode::Fault), message);
        return static_cast<int>(ExitCode::Fault);
    }
}

Request parseCommandLine(int argc, char** argv, bool speaks) {
    Request request;
    CLI::App app{
        "aimerge merges fine-tuned language models with Activation-Informed Merging.\n"
        "Start it alone, or on several ranks with mpirun or srun:\n"
        "  mpirun -n 4 aimerge merge configs/smollm2-ties-aim.yaml --out merged/"};
    app.set_version_flag("--version", fmt::format("aimerge {}", kVersion));
    app.require_subcommand(1);
    for (const Command* command : kCommands) {
        CLI::App* sub = app.add_subcommand(command->name, command->summary);
        command->declare(*sub, request.options);
        declareCommonOptions(*sub, request.options);
        sub->callback([&request, command, sub] {
            request.command = command;
            request.computes = sub->get_option_no_throw("--device") != nullptr;
        });
    }
    app.footer(
        "Exit codes: 0 done; 2 bad usage or config; 3 bad input; 4 a fault while running; 6 verify found damage;\n"
        "75 interrupted, run the same command again to continue.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;
        if (speaks && asked) app.exit(error);
        if (speaks && !asked) fmt::print(stderr, "aimerge: {} (see aimerge --help)\n", error.what());
        request.command = nullptr;
        request.exitCode = asked ? 0 : static_cast<int>(ExitCode::Usage);
    }
    return request;
}

int runJob(int argc, char** argv) {
    World world(argc, argv);
    Request request = parseCommandLine(argc, argv, world.isRoot());
    if (!request.command) return world.leave(request.exitCode);
    startLogging(world, request.options.logLevel);
    return world.leave(run(world, request));
}

}  // namespace

int main(int argc, char** argv) {
    installInterruptionHandlers();
    try {
        return runJob(argc, argv);
    } catch (const Error& error) {  // the ranks could not be brought together: there is nobody to tell
        fmt::print(stderr, "aimerge: {}\n", error.what());
        return static_cast<int>(error.exitCode());
    }
}
