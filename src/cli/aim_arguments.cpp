#include "cli/aim_arguments.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

/// Some 8 thousand tokens of prose, letters, documentation and code.
std::filesystem::path generalText() {
    return (environment::toolsDirectory() / "general_text.txt").lexically_normal();
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
    return nlohmann::json(text).dump();
}

std::string quotedList(const std::vector<std::string>& texts) {
    return nlohmann::json(texts).dump();
}

bool usesGeneralText(const AimArguments& arguments) {
    return arguments.corpus.empty() && arguments.statistics.empty();
}

CLI::Option* declareAimOptions(CLI::App& app, AimArguments& arguments) {
    CLI::Option* omega = app.add_option("--omega", arguments.omegas,
                                        "How much of the change the most active channels keep, in [0, 1]; several values "
                                        "(0.2,0.4) give a folder each")
                             ->delimiter(',');
    app.add_option("--corpus", arguments.corpus,
                   "Text on which the base's activations are measured (default: a general text that comes with aimerge)");
    app.add_option("--text-key", arguments.textKeys, "Keys of a .jsonl line whose texts are joined")->delimiter(',');
    app.add_option("--preset", arguments.preset, "paper, or reference-code: the arithmetic of the AIM authors' code");
    app.add_option("--statistics", arguments.statistics, "A log of aimerge calibrate, in place of a text");
    return omega;
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
