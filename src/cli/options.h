#pragma once
// The command line's options, one struct for all subcommands; each subcommand declares the ones it understands.

#include "aimerge/job/config_text.h"
#include "aimerge/job/job.h"
#include "aimerge/job/report.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

class World;

struct Options : JobOptions {
    std::string subject;   // CONFIG or PATH
    int plannedRanks = 0;  // plan: 0 = the ranks it runs on
    std::string hardware;  // plan: empty = what it runs on
    std::string logLevel = "info";
    std::string logDirectory;  // empty = none
    bool json = false;
    bool timesAsJson = false;
    // evaluate
    std::vector<std::string> suites;  // paths
    std::string computeDtype = "float32";
    std::string choiceMetric = "acc_norm";
    std::int64_t blockLength = 256;  // tokens
    std::string samples;             // file to write; empty = none
    std::vector<std::string> only;   // sweep: conditions on points
    bool listCombinations = false;
    ReportRequest report;
    FeatcalArguments featcal;
    AimArguments aim;
    std::string relaxBase;
    MethodArguments method;   // merge, plan: in place of `subject`
    std::string outArgument;  // merge: what `out` may be written as
};

/// A subcommand: its name, one line and a command line for --help, the options it takes, and what it does.
/// `run` is collective: every rank calls it.
struct Command {
    const char* name;
    const char* summary;
    const char* example;
    void (*declare)(CLI::App& app, Options& options);
    void (*run)(World& world, const Options& options);
};

extern const Command kPlanCommand, kCalibrateCommand, kMergeCommand, kSweepCommand, kEvaluateCommand, kReportCommand,
    kInspectCommand, kVerifyCommand, kMethodsCommand, kFeatcalCommand, kRelaxCommand;

/// Options shared by the commands that compute.
void declareComputeOptions(CLI::App& app, Options& options);
/// Those and the options shared by the commands that start from a config file.
void declareJobOptions(CLI::App& app, Options& options);
/// CONFIG, or --method and the options that go with it.
void declareConfig(CLI::App& app, Options& options);
/// --max-shard-size.
void declareShardSize(CLI::App& app, Options& options);
/// --read-ahead, of the commands that merge files.
void declareReadAhead(CLI::App& app, Options& options);
/// --stages and --replicas, of the commands that may calibrate with AIM.
void declarePipeline(CLI::App& app, Options& options);
/// --io, for ranks that do not see the models.
void declareScatter(CLI::App& app, Options& options);
/// --gather, for ranks that do not see the output.
void declareGather(CLI::App& app, Options& options);
/// --json of the commands whose result is a file: what the job took, on standard output.
void declareTimesAsJson(CLI::App& app, Options& options);
/// --log-level and --help's common footer; every command has them.
void declareCommonOptions(CLI::App& app, Options& options);

/// --omega, --corpus, --text-key, --preset, --statistics.
CLI::Option* declareAimOptions(CLI::App& app, AimArguments& arguments);

/// The config of CONFIG, or of --method and the options that go with it: on rank 0. @throws UsageError for both or neither
ConfigText configText(const World& world, const Options& options);
/// The config of CONFIG alone.
ConfigText fileText(const World& world, const Options& options);

}  // namespace aimerge
