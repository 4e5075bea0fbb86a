#include "cli/bad_command_line.h"

#include "cli/mergekit_names.h"

#include "aimerge/core/size_text.h"
#include "aimerge/merge/method.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace aimerge {
namespace {

bool isOption(const std::string& word) {
    return word.size() > 1 && word.front() == '-';
}

/// "--threads=4" is --threads, "-j4" is -j.
std::string nameOf(const std::string& option) {
    return option.starts_with("--") ? option.substr(0, option.find('=')) : option.substr(0, 2);
}

std::vector<std::string> longNames(const CLI::App& command) {
    std::vector<std::string> names;
    for (const CLI::Option* option : command.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    return names;
}

/// A slip of the keyboard, or a longer or shorter form: --base-model for --base.
std::string nearestOption(const std::string& option, const CLI::App& command) {
    const std::vector<std::string> known = longNames(command);
    const std::string nearest = nearestName(option, known);
    if (!nearest.empty() || option.size() < 4) return nearest;
    const std::string word = option.substr(2);
    const auto contains = [&](const std::string& name) {
        return word.find(name.substr(2)) != std::string::npos || name.find(word) != std::string::npos;
    };
    const auto found = std::ranges::find_if(known, contains);
    return found == known.end() ? "" : *found;
}

bool isMethodParameter(const std::string& name) {
    return std::ranges::any_of(methods(), [&](const Method* method) {
        return std::ranges::find(method->info().parameters, name, &ParameterSpec::name) != method->info().parameters.end();
    });
}

std::string answerTo(const std::string& option, const CLI::App& command) {
    std::string answer = command.get_option_no_throw("--max-shard-size") ? insteadOfMergekitOption(option) : "";
    if (!answer.empty()) return fmt::format("{}: {}", option, answer);
    if (command.get_option_no_throw("--param") && option.starts_with("--") && isMethodParameter(option.substr(2)))
        return fmt::format("{0}: a method's parameter is written --param {1}=VALUE", option, option.substr(2));
    const std::string nearest = nearestOption(option, command);
    return nearest.empty() ? option : fmt::format("{}: did you mean {}?", option, nearest);
}

std::string unknownOptions(const std::vector<std::string>& options, const CLI::App& command) {
    std::vector<std::string> answers;
    for (const std::string& option : options) {
        std::string answer = answerTo(nameOf(option), command);
        if (std::ranges::find(answers, answer) == answers.end()) answers.push_back(std::move(answer));
    }
    return fmt::format("{} has no option {} (see aimerge {} --help)", command.get_name(), fmt::join(answers, "; "),
                       command.get_name());
}

std::string unknownCommand(const std::string& word, const CLI::App& app) {
    if (word.ends_with(".yml") || word.ends_with(".yaml"))
        return fmt::format("a command is missing; a config is merged by: aimerge merge {} OUT", word);
    if (const std::string answer = insteadOfMergekitProgram(word); !answer.empty())
        return fmt::format("there is no command '{}': {}", word, answer);
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
    const std::string nearest = nearestName(word, names);
    const std::string hint =
        nearest.empty() ? fmt::format("there are {}", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", nearest);
    return fmt::format("there is no command '{}'; {} (see aimerge --help)", word, hint);
}

}  // namespace

std::string whatIsWrong(const CLI::App& app, const CLI::ParseError& error) {
    std::vector<std::string> options, words;
    for (const std::string& word : app.remaining(true)) (isOption(word) ? options : words).push_back(word);
    const std::vector<CLI::App*> commands = app.get_subcommands();
    if (commands.empty()) {
        if (!words.empty()) return unknownCommand(words.front(), app);
        return fmt::format("{} (see aimerge --help)", options.empty() ? error.what() : "a command is missing");
    }
    const CLI::App& command = *commands.front();
    if (!options.empty()) return unknownOptions(options, command);
    if (!words.empty())
        return fmt::format("{} does not expect '{}' (see aimerge {} --help)", command.get_name(), fmt::join(words, "' '"),
                           command.get_name());
    return fmt::format("{} (see aimerge {} --help)", error.what(), command.get_name());
}

}  // namespace aimerge
