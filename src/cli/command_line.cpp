#include "cli/command_line.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace aimerge {

std::string commandLine() {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!text.empty() && text.back() == '\0') text.pop_back();
    std::replace(text.begin(), text.end(), '\0', ' ');
    return text;
}

}  // namespace aimerge
