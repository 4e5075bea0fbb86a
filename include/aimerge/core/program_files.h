#pragma once
// Where the files lie that belong to the program. They are found from the library or program that this code is in, so that an
// installed tree can be moved.

#include <filesystem>

namespace aimerge {

struct ProgramFiles {
    bool installed = false;              ///< else in the folder it was built in
    std::filesystem::path torchLibrary;  ///< libaimerge_torch.so, which brings libtorch into the process
    std::filesystem::path tools;         ///< the Python scripts that the program starts, and requirements.txt
    std::filesystem::path paperTables;   ///< the AIM paper's tables
    /// The interpreter whose packages the scripts are made for: of the environment that launch/setup.sh makes, or, of an
    /// installation, the distribution's. May be missing.
    std::filesystem::path python;
};

/// An installation where PREFIX/lib/aimerge/libaimerge.so or PREFIX/bin/aimerge has PREFIX/share/aimerge/tools, else the build
/// and source tree. @param binary a path without links
ProgramFiles programFilesOf(const std::filesystem::path& binary);

/// Those of this process.
const ProgramFiles& programFiles();

}  // namespace aimerge
