#include "corpus/python_helper.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"

namespace aimerge {
namespace {

std::vector<std::string> commandFor(const std::string& script, const std::vector<std::string>& arguments) {
    const std::filesystem::path path = environment::toolsDirectory() / script;
    if (!exists(path))
        throw RuntimeFault("{}: a script that reads text is not there; set AIMERGE_TOOLS_DIR to its folder", path.string());
    std::vector<std::string> command = environment::pythonCommand();
    command.push_back(path.string());
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
}

}  // namespace

PythonHelper::PythonHelper(const std::string& script, const std::vector<std::string>& arguments, const std::string& package)
    : script_(script), hint_(environment::howToGetPackage(package)), process_(commandFor(script, arguments), hint_) {
    contentOf(process_.receive());
}

std::string PythonHelper::request(std::string_view message) {
    return contentOf(process_.request(message));
}

std::string PythonHelper::contentOf(std::string answer) const {
    const char kind = answer.empty() ? '\0' : answer.front();
    answer.erase(0, 1);
    switch (kind) {
        case 'I':
            return answer;
        case 'E':
            throw InputError("{}", answer);
        case 'S':
            throw RuntimeFault("{}; {}", answer, hint_);
        default:
            throw RuntimeFault("{}: an answer of unknown kind", script_);
    }
}

}  // namespace aimerge
