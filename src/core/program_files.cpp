#include "aimerge/core/program_files.h"

#include <dlfcn.h>

#include <system_error>

namespace aimerge {
namespace fs = std::filesystem;

ProgramFiles programFilesOf(const fs::path& binary) {
    const fs::path folder = binary.parent_path();
    const bool isLibrary = folder.filename() == "aimerge";  // PREFIX/lib/aimerge; else PREFIX/bin
    const fs::path prefix = (isLibrary ? folder.parent_path() : folder).parent_path(), shared = prefix / "share/aimerge";
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
        Dl_info here{};
        ::dladdr(reinterpret_cast<const void*>(&programFilesOf), &here);
        std::error_code unreadable;
        return programFilesOf(fs::canonical(here.dli_fname ? here.dli_fname : "/proc/self/exe", unreadable));
    }();
    return files;
}

}  // namespace aimerge
