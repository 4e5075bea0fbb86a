// The one door of the shared library that brings libtorch into the process.

#include "aimerge/calibration/torch_library.h"
#include "aimerge/core/error.h"

#include <c10/util/Exception.h>

extern "C" void aimerge_calibrate_v1(aimerge::World* world, const aimerge::CalibrationJob* job,
                                     aimerge::CalibrationResult* result) {
    try {
        *result = aimerge::calibrate(*world, *job);
    } catch (const c10::Error& error) {
        throw aimerge::RuntimeFault("calibration: libtorch: {}", error.what_without_backtrace());
    }
}
