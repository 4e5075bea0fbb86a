// aimerge calibrate CONFIG --out stats.h5: the activation statistics of the config's base model, and the sensitivity of its
// parameters where AIM uses it.

#include "cli/options.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

namespace aimerge {
namespace {

void declareCalibrate(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Config with base_model and aim.calibration (YAML)")->required();
    app.add_option("--out", options.out, "Statistics log to write (HDF5)")->required();
    app.add_flag("--overwrite", options.overwrite, "Replace a log that holds other statistics");
    declareScatter(app, options);
    declareTimesAsJson(app, options);
    declareJobOptions(app, options);
    declarePipeline(app, options);
}

void runCalibrate(World& world, const Options& options) {
    calibrate(world, options, fileText(world, options));
}

}  // namespace

const Command kCalibrateCommand{"calibrate", "Measure the activation statistics of the base model",
                                "aimerge calibrate configs/smollm2-ties-aim.yaml --out statistics.h5", declareCalibrate,
                                runCalibrate};

}  // namespace aimerge
