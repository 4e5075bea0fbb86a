#pragma once
// The command line's options, one struct for all subcommands; each subcommand declares the ones it understands.

#include "cli/aim_arguments.h"
#include "cli/method_arguments.h"

#include "aimerge/core/progress.h"
#include "aimerge/device/device.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

class World;

/// aimerge featcal.
struct FeatcalArguments {
    std::vector<std::string> experts;  // NAME=MODEL:TEXT
    std::string base, baseText;        // empty = none
    double lambda = 0.01, rho = 1, alpha = 1;
    std::vector<std::string> textKeys;  // empty: by layout
    std::int64_t sequences = 256, sequenceLength = 2048;
    std::string dtype = "bfloat16";
};

struct Options {
    std::string subject;  // CONFIG or PATH
    std::string out;
    std::string device = "auto";
    Device computesOn;             // what chooseDevice() found for this rank
    int plannedRanks = 0;          // plan: 0 = the ranks it runs on
    std::string hardware;          // plan: empty = what it runs on
    int stages = 0, replicas = 0;  // of a calibration; 0 = the planner chooses
    int threads = 0;               // per rank; 0 = share the machine's among the ranks on it
    std::string memoryLimit;       // per rank; empty = none
    std::string readAhead;         // per rank; empty = chosen
    std::string maxShardSize = "5GB";
    bool scattersInputs = false, gathersAtRoot = false;  // --io scatter, --gather root
    std::vector<std::string> overrides;                  // --set path.to.key=value
    std::string progress = "auto";
    std::string logLevel = "info";
    std::string logDirectory;  // empty = none
    bool dryRun = false;
    bool strict = false, allowsCrimes = false;
    bool overwrite = false;
    bool json = false;
    bool timesAsJson = false;
    bool verifyAfter = false;
    // evaluate
    std::vector<std::string> suites;  // paths
    std::string computeDtype = "float32";
    std::string choiceMetric = "acc_norm";
    std::int64_t blockLength = 256;  // tokens
    std::string samples;             // file to write; empty = none
    std::vector<std::string> only;   // sweep: conditions on points
    bool listCombinations = false;
    // report
    std::string scores, lmEval, statisticsLog;  // files and a folder; empty = none
    std::string population = "stated";
    int scale = 0;         // 1 or 100; 0 = guess
    int comparePaper = 0;  // table of the paper; 0 = none
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
/// --io, for ranks that do not see the models.
void declareScatter(CLI::App& app, Options& options);
/// --gather, for ranks that do not see the output.
void declareGather(CLI::App& app, Options& options);
/// --json of the commands whose result is a file: what the job took, on standard output.
void declareTimesAsJson(CLI::App& app, Options& options);
/// --log-level and --help's common footer; every command has them.
void declareCommonOptions(CLI::App& app, Options& options);

/// Threads of this rank: --threads, or this rank's share of the CPUs.
int threadsPerRank(const World& world, const Options& options);
/// --memory-limit in bytes; 0 = not given. @throws UsageError
std::uint64_t givenMemoryLimit(const Options& options);
/// Bytes for what grows with the model, 0 = no limit: --memory-limit, or on a GPU most of its memory. @throws UsageError
std::uint64_t memoryLimitBytes(const Options& options);
/// The part of a GPU's memory that is for what grows with the model; the rest is for libraries and what they allocate at
/// once.
std::uint64_t usableGpuMemory(std::uint64_t bytes);
ProgressMode progressMode(const World& world, const Options& options);
/// Where this rank merges: on its GPU only with --device cuda, because a merge is as fast as files are read and written,
/// which the CPU does without copying data over (docs/gpu.md).
Device mergesOn(const Options& options);

/// Collective. Where this rank computes: with `cuda` a GPU of its own, or an error; with `auto` a GPU of its own where every
/// rank has one, else the CPU.
/// @throws UsageError saying which rank has no GPU and why
Device chooseDevice(World& world, const Options& options);

}  // namespace aimerge
