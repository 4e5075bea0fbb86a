#include "aimerge/job/command_line.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace aimerge {

namespace {

/// Each word with a NUL behind it.
std::string wordsOfCommandLine() {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string withBlanks(std::string words) {
    if (!words.empty() && words.back() == '\0') words.pop_back();
    std::replace(words.begin(), words.end(), '\0', ' ');
    return words;
}

}  // namespace

std::string commandLine() {
    return withBlanks(wordsOfCommandLine());
}

std::string commandArguments() {
    const std::string words = wordsOfCommandLine();
    return withBlanks(words.substr(std::min(words.size(), words.find('\0') + 1)));
}

}  // namespace aimerge
