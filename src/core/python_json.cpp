#include "aimerge/core/python_json.h"

#include <array>
#include <limits>
#include <utility>

namespace aimerge {
namespace {

struct Word {
    std::string_view text;
    double number;
};

// "-Infinity" before "Infinity", which it contains.
constexpr std::array kWords{Word{"-Infinity", -std::numeric_limits<double>::infinity()},
                            Word{"Infinity", std::numeric_limits<double>::infinity()},
                            Word{"NaN", std::numeric_limits<double>::quiet_NaN()}};

constexpr std::string_view kMark = "\x01number ";          // in a value
constexpr std::string_view kWritten = "\"\\u0001number ";  // as JSON writes the beginning of such a string

bool isKey(std::string_view rest) {
    const std::size_t next = rest.find_first_not_of(" \t\r\n");
    return next != std::string_view::npos && rest[next] == ':';
}

}  // namespace

std::string quoteNonFinite(std::string_view text) {
    std::string result;
    bool inString = false;
    std::size_t copied = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && inString) {
            ++i;
        } else if (text[i] == '"') {
            inString = !inString;
        } else if (!inString && (text[i] == 'N' || text[i] == 'I' || text[i] == '-')) {
            for (const Word& word : kWords) {
                if (!text.substr(i).starts_with(word.text) || isKey(text.substr(i + word.text.size()))) continue;
                result.append(text.substr(copied, i - copied)).append(kWritten).append(word.text).append("\"");
                i += word.text.size() - 1;
                copied = i + 1;
                break;
            }
        }
    }
    return result.append(text.substr(copied));
}

std::string unquoteNonFinite(std::string text) {
    for (std::size_t at = text.find(kWritten); at != std::string::npos; at = text.find(kWritten, at)) {
        text.erase(text.find('"', at + 1), 1);
        text.erase(at, kWritten.size());
    }
    return text;
}

bool nonFiniteNumber(const std::string& text, double& number) {
    if (!text.starts_with(kMark)) return false;
    for (const Word& word : kWords)
        if (text.substr(kMark.size()) == word.text) {
            number = word.number;
            return true;
        }
    return false;
}

std::string nonFiniteText(double number) {
    const std::size_t word = std::isnan(number) ? 2 : number > 0 ? 1 : 0;
    return std::string(kMark).append(kWords[word].text);
}

}  // namespace aimerge
