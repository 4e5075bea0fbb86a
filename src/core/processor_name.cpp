#include "aimerge/core/processor_name.h"

#include <sys/utsname.h>

#include <fstream>
#include <string_view>

namespace aimerge {

std::string processorName() {
    constexpr std::string_view kKey = "model name";
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(kKey)) continue;
        const std::size_t name = line.find_first_not_of(" \t:", kKey.size());
        if (name != std::string::npos) return line.substr(name);
    }
    utsname system{};
    return ::uname(&system) == 0 ? system.machine : "unknown processor";
}

}  // namespace aimerge
