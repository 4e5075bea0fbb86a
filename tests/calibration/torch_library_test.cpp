// The path of the command line: this program does not link libtorch, the library brings it.

#include "aimerge/torch/torch_library.h"
#include "aimerge/core/error.h"
#include "corpus/golden_corpus.h"
#include "support/mpi_world.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::HasSubstr;

TEST(TorchLibrary, CalibratesOverTheRanksOfTheExecutable) {
    const Checkpoint base = Checkpoint::open(goldenPath("family_f32/base").string());
    CalibrationConfig config;
    config.dtype = Dtype::F32;
    const TokenBlocks blocks = goldenBlocks();
    const Plan plan = planOfThreeLayers(testWorld().size(), false);

    const CalibrationResult result = calibrateWithTorch(testWorld(), {base, config, plan, blocks});

    if (!testWorld().isRoot()) return;
    for (const auto& [module, values] : readGolden<float>("calibration/statistics_f32.safetensors", Dtype::F32))
        for (std::size_t c = 0; c < values.size(); ++c)
            ASSERT_NEAR(result.modules.at(module).meanAbs.at(c), values[c], 1e-6 + 1e-4 * values[c]) << module;
}

TEST(TorchLibrary, ItsInputErrorIsCaughtAsOne) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    model.config["hidden_act"] = "gelu";
    model.write(folder / "bad");
    const Checkpoint base = Checkpoint::open((folder / "bad").string());
    const CalibrationConfig config;
    const TokenBlocks blocks = goldenBlocks(1);
    Plan plan = planOfThreeLayers(std::min(testWorld().size(), 3), false);
    plan.ranks.resize(static_cast<std::size_t>(testWorld().size()));

    // Every rank with layers refuses the model before it waits for another.
    try {
        calibrateWithTorch(testWorld(), {base, config, plan, blocks});
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_EQ(error.exitCode(), ExitCode::Input);
        EXPECT_THAT(error.what(), HasSubstr("hidden_act is \"gelu\""));
    }
}

}  // namespace
}  // namespace aimerge
