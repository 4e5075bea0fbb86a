#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/job/config_text.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

/// Some 8 thousand tokens of prose, letters, documentation and code.
std::filesystem::path generalText() {
    return (environment::toolsDirectory() / "general_text.txt").lexically_normal();
}

/// Nothing was said about activations.
bool usesGeneralText(const AimArguments& arguments) {
    return arguments.corpus.empty() && arguments.statistics.empty();
}

std::string calibrationSection(const AimArguments& arguments) {
    const bool isGeneral = usesGeneralText(arguments);
    std::string text =
        fmt::format("  calibration:\n    corpus: {}\n", quoted(isGeneral ? generalText().string() : arguments.corpus));
    if (!arguments.textKeys.empty()) text += fmt::format("    text_key: {}\n", quotedList(arguments.textKeys));
    // As many as the text has in every tokenizer of a usual size; a preset brings its own.
    if (isGeneral && arguments.preset.empty()) text += "    sequences: 12\n    sequence_length: 512\n";
    return text;
}

}  // namespace

std::string quoted(const std::string& text) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::type_error&) {
        throw UsageError("'{}' is not UTF-8, which a config is written in; rename it", text);
    }
}

std::string quotedList(const std::vector<std::string>& texts) {
    return nlohmann::json(texts).dump();
}

std::string remarkOn(const AimArguments& arguments) {
    if (!usesGeneralText(arguments) || arguments.omegas.empty()) return {};
    return "no --corpus: activations are measured on a general text that comes with aimerge; text of the kind that the base "
           "is used "
           "for is better";
}

std::string aimSection(const AimArguments& arguments) {
    if (!arguments.corpus.empty() && !arguments.statistics.empty())
        throw UsageError("--corpus and --statistics exclude each other: activations are measured, or read from a log");
    if (!arguments.textKeys.empty() && arguments.corpus.empty())
        throw UsageError("--text-key is about the corpus: name it by --corpus");
    std::string text = "aim:\n";
    text += arguments.omegas.size() == 1 ? fmt::format("  omega: {}\n", arguments.omegas.front())
                                         : fmt::format("  omega: [{}]\n", fmt::join(arguments.omegas, ", "));
    if (!arguments.preset.empty()) text += fmt::format("  preset: {}\n", quoted(arguments.preset));
    if (!arguments.statistics.empty()) return text + fmt::format("  statistics: {}\n", quoted(arguments.statistics));
    return text + calibrationSection(arguments);
}

}  // namespace aimerge
