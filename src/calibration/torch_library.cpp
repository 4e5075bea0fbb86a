#include "aimerge/calibration/torch_library.h"

#include "aimerge/core/error.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

namespace aimerge {
namespace {

constexpr const char* kFileName = "libaimerge_torch.so";
using CalibrateEntry = decltype(&aimerge_calibrate_v1);

/// Beside the executable, as the build and an installation put it; else where this build made it.
std::filesystem::path libraryPath() {
    std::error_code unreadable;
    const auto executable = std::filesystem::read_symlink("/proc/self/exe", unreadable);
    if (!unreadable) {
        auto beside = executable.parent_path() / kFileName;
        if (std::filesystem::exists(beside, unreadable)) return beside;
    }
    return AIMERGE_TORCH_LIBRARY;
}

CalibrateEntry loadEntry() {
    const std::filesystem::path path = libraryPath();
    // Never closed: libtorch's threads and static objects do not survive that.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw RuntimeFault("calibration needs {}, which cannot be loaded: {}", path.string(), dlerror());
    void* entry = dlsym(library, "aimerge_calibrate_v1");
    if (!entry) throw RuntimeFault("{}: is of another version of aimerge; build again", path.string());
    return reinterpret_cast<CalibrateEntry>(entry);
}

}  // namespace

CalibrationResult calibrateWithTorch(World& world, const CalibrationJob& job) {
    static const CalibrateEntry entry = loadEntry();
    CalibrationResult result;
    entry(&world, &job, &result);
    return result;
}

}  // namespace aimerge
