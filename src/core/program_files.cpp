#include "aimerge/core/program_files.h"

#include <system_error>

namespace aimerge {
namespace fs = std::filesystem;

ProgramFiles programFilesOf(const fs::path& executable) {
    const fs::path folder = executable.parent_path(), prefix = folder.parent_path(), shared = prefix / "share/aimerge";
    const char* const library = "libaimerge_torch.so";
    std::error_code unreadable;
    if (fs::is_directory(shared / "tools", unreadable))
        return {.installed = true,
                .torchLibrary = prefix / "lib/aimerge" / library,
                .tools = shared / "tools",
                .paperTables = shared / "configs/paper/printed",
                .python = "/usr/bin/python3"};
    const fs::path source = AIMERGE_SOURCE_ROOT;
    return {.installed = false,
            .torchLibrary = folder / library,
            .tools = source / "src/tools",
            .paperTables = source / "configs/paper/printed",
            .python = source / "build/venv/bin/python"};
}

const ProgramFiles& programFiles() {
    static const ProgramFiles files = [] {
        std::error_code unreadable;
        return programFilesOf(fs::read_symlink("/proc/self/exe", unreadable));
    }();
    return files;
}

}  // namespace aimerge
