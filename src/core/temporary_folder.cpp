#include "aimerge/core/temporary_folder.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <utility>

namespace aimerge {

TemporaryFolder::TemporaryFolder() {
    std::string name = (environment::scratchDirectory() / "aimerge-XXXXXX").string();
    if (!::mkdtemp(name.data()))
        throw RuntimeFault("{}: no folder can be made here ({}); set AIMERGE_SCRATCH_DIR",
                           environment::scratchDirectory().string(), std::generic_category().message(errno));
    path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

TemporaryFolder& TemporaryFolder::operator=(TemporaryFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
}

}  // namespace aimerge
