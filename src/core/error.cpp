#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

bool isControl(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

}  // namespace

std::string oneLine(std::string text) {
    if (std::ranges::none_of(text, isControl)) return text;
    std::string line;
    for (const char c : text) {
        if (c == '\n')
            line += "\\n";
        else if (isControl(c))
            line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        else
            line += c;
    }
    return line;
}

}  // namespace aimerge
