#include "cli/options.h"

#include "aimerge/core/error.h"
#include "aimerge/distributed/world.h"

namespace aimerge {
namespace {

/// What --help lists the options under that stand for a config, and those of AIM beside them.
constexpr const char* kInPlaceOfConfig = "In place of a config";

/// --method and what goes with it, all but the options of AIM.
void declareMethodOptions(CLI::App& app, MethodArguments& arguments) {
    CLI::Option* method = app.add_option("--method", arguments.method, "Merge method (see aimerge methods)");
    const auto add = [&](const char* name, auto& value, const char* description) {
        return app.add_option(name, value, description)->group(kInPlaceOfConfig)->needs(method);
    };
    method->group(kInPlaceOfConfig);
    add("--base", arguments.base, "The model that the others were fine-tuned from");
    add("--models", arguments.models, "The models to merge: A,B,C (repeatable)");
    add("--weight", arguments.weight, "One value, or one for each model")->delimiter(',');
    add("--density", arguments.density, "Share of each change that is kept: one value, or one for each model")
        ->delimiter(',');
    add("--param", arguments.parameters,
        "Other method parameter: NAME=VALUE, or NAME=VALUE,VALUE with one value per model (repeatable)");
    add("--dtype", arguments.dtype, "Data type of the output: float32, float16 or bfloat16 (default: the models')");
}

}  // namespace

CLI::Option* declareAimOptions(CLI::App& app, AimArguments& arguments) {
    CLI::Option* omega = app.add_option("--omega", arguments.omegas,
                                        "Share of the change that the most active channels keep, 0 to 1; several values "
                                        "(0.2,0.4) write one folder each")
                             ->delimiter(',');
    app.add_option("--corpus", arguments.corpus,
                   "Text on which the base's activations are measured (default: a general text that comes with aimerge)");
    app.add_option("--text-key", arguments.textKeys, "Columns to join into one text")->delimiter(',');
    app.add_option("--preset", arguments.preset, "paper, or reference-code: the arithmetic of the AIM authors' code");
    app.add_option("--statistics", arguments.statistics, "Statistics log of aimerge calibrate, instead of measuring");
    return omega;
}

void declareConfig(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Merge config (YAML)");
    declareMethodOptions(app, options.method);
    declareAimOptions(app, options.aim);
    for (const char* name : {"--omega", "--corpus", "--text-key", "--preset", "--statistics"})
        app.get_option(name)->group(kInPlaceOfConfig);
}

namespace {

void requireOneConfig(const Options& options) {
    if (!options.method.method.empty() && !options.subject.empty())
        throw UsageError("'{}' is a config, and --method stands for one: give one of them{}", options.subject,
                         options.out.empty() ? "; with --method, the folder to write is --out" : "");
    if (!options.method.method.empty()) return;
    if (options.subject.empty()) throw UsageError("give a CONFIG, or --method METHOD --base BASE --models A,B in its place");
    const AimArguments& aim = options.aim;
    if (!aim.omegas.empty() || !aim.corpus.empty() || !aim.preset.empty() || !aim.statistics.empty() ||
        !aim.textKeys.empty())
        throw UsageError(
            "--omega, --corpus, --text-key, --preset and --statistics belong to --method; change the config, or use "
            "--set aim.omega=0.4");
}

}  // namespace

ConfigText configText(const World& world, const Options& options) {
    requireOneConfig(options);
    if (options.method.method.empty()) return fileText(world, options);
    return {world.isRoot() ? methodConfigText(options.method, options.aim, options.overrides) : "", "--method", true,
            remarkOn(options.aim)};
}

ConfigText fileText(const World& world, const Options& options) {
    return {world.isRoot() ? readMergeConfigText(options.subject) : "", options.subject, false, ""};
}

}  // namespace aimerge
