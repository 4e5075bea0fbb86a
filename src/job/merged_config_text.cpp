#include "aimerge/core/error.h"
#include "aimerge/job/config_text.h"

#include <fmt/core.h>

namespace aimerge {
namespace {

struct NamedExpert {
    std::string model, text;
};

/// "code=models/code:code.jsonl"; the name may be left out.
NamedExpert splitExpert(const std::string& argument) {
    const std::size_t equals = argument.find('='), colon = argument.rfind(':');
    const std::size_t begin = equals == std::string::npos ? 0 : equals + 1;
    if (colon == std::string::npos || colon <= begin || colon + 1 == argument.size())
        throw UsageError(
            "--expert {}: expected NAME=MODEL:TEXT, such as code=models/code:code.jsonl, where TEXT is a corpus "
            "(docs/file-formats.md) of examples of what the expert does",
            argument);
    return {argument.substr(begin, colon - begin), argument.substr(colon + 1)};
}

std::string calibrationText(const FeatcalArguments& arguments, const std::string& corpus) {
    const std::string keys = arguments.textKeys.empty() ? "" : fmt::format("text_key: {}, ", quotedList(arguments.textKeys));
    return fmt::format("{{corpus: {}, {}sequences: {}, sequence_length: {}, dtype: {}}}", quoted(corpus), keys,
                       arguments.sequences, arguments.sequenceLength, arguments.dtype);
}

}  // namespace

std::string relaxConfigText(const std::string& merged, const std::string& base, const AimArguments& aim) {
    return fmt::format(
               "merge_method: task_arithmetic\nbase_model: {}\nmodels:\n  - model: {}\n    parameters: {{weight: 1}}\n",
               quoted(base), quoted(merged)) +
           aimSection(aim);
}

std::string featcalConfigText(const std::string& merged, const FeatcalArguments& arguments) {
    if (arguments.base.empty() && (!arguments.baseText.empty() || arguments.rho != 1))
        throw UsageError("--rho and --base-text are about a base: name it by --base");
    std::string text = fmt::format("merge_method: passthrough\nmodels:\n  - model: {}\n", quoted(merged));
    text +=
        fmt::format("featcal:\n  lambda: {}\n  rho: {}\n  alpha: {}\n", arguments.lambda, arguments.rho, arguments.alpha);
    if (!arguments.base.empty()) {
        text += fmt::format("  base:\n    model: {}\n", quoted(arguments.base));
        if (!arguments.baseText.empty())
            text += fmt::format("    calibration: {}\n", calibrationText(arguments, arguments.baseText));
    }
    text += "  experts:\n";
    for (const std::string& argument : arguments.experts) {
        const NamedExpert expert = splitExpert(argument);
        text += fmt::format("    - model: {}\n      calibration: {}\n", quoted(expert.model),
                            calibrationText(arguments, expert.text));
    }
    return text;
}

}  // namespace aimerge
