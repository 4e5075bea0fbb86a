#include "aimerge/output/model_card.h"

#include "aimerge/core/version.h"

#include <fmt/format.h>

#include <algorithm>

namespace aimerge {
namespace {

std::string frontMatter(const ModelCard& card) {
    std::vector<std::string> names;
    if (card.base && card.base->onHub) names.push_back(card.base->name);
    for (const CardModel& expert : card.experts) {
        if (expert.onHub && std::find(names.begin(), names.end(), expert.name) == names.end()) names.push_back(expert.name);
    }
    std::string text = "---\n";
    text += names.empty() ? "base_model: []\n" : "base_model:\n";
    for (const std::string& name : names) text += fmt::format("- {}\n", name);
    return text + "library_name: transformers\ntags:\n- mergekit\n- merge\n- aimerge\n\n---\n";
}

std::string nameText(const CardModel& model) {
    return model.onHub ? fmt::format("[{0}](https://huggingface.co/{0})", model.name) : fmt::format("`{}`", model.name);
}

std::string methodText(const ModelCard& card) {
    std::string text = fmt::format("### Merge method\n\n`{}`: {}", card.method, card.methodDescription);
    if (!card.paper.empty()) text += fmt::format(" ({})", card.paper);
    text += ".\n";
    if (card.base) text += fmt::format("\nThe base model is {}.\n", nameText(*card.base));
    if (card.seed) text += fmt::format("\nThe seed of its random numbers is {}.\n", *card.seed);
    if (card.omegas.empty()) return text;
    const double least = *card.omegas.begin(), most = *card.omegas.rbegin();
    const std::string omega = least == most ? fmt::format("{}", least) : fmt::format("{} to {}, by tensor", least, most);
    const bool ofEach = card.source == ActivationSource::Experts;
    const char* change = ofEach ? "each expert's change, before the merge," : "the change";
    const char* user = ofEach                                  ? "it uses"
                       : card.source == ActivationSource::Base ? "the base model uses"
                                                               : "the experts use";
    text += fmt::format(
        "\nActivation-Informed Merging holds back {} on the input channels that {} most\n"
        "(omega = {}, statistic {}):\n\n"
        "    theta_AIM = theta_base + (1 - A (1 - omega)) * (theta_{} - theta_base)\n\n"
        "A is the activity of each input channel over a calibration corpus, scaled to [0, 1] per layer: omega = 1 is the "
        "plain\n"
        "merge, and at omega = 0 the most active channel of each layer keeps the base model's weights.\n",
        change, user, omega, card.statistic, ofEach ? "expert" : "merged");
    return text;
}

std::string calibrationText(const ModelCard& card) {
    if (card.fittedTo.empty()) return {};
    std::string text =
        "\n### Feature calibration\n\nThe layers of the merge were fitted to what these models compute on texts of their "
        "own "
        "(FeatCal, arXiv 2605.13030):\n\n";
    for (const CardModel& model : card.fittedTo) text += fmt::format("* {}\n", nameText(model));
    return text;
}

std::string modelsText(const ModelCard& card) {
    std::string text = "\n### Models merged\n\n";
    for (const CardModel& expert : card.experts) text += fmt::format("* {}\n", nameText(expert));
    return text;
}

/// The config in a fence longer than any run of backticks in it.
std::string configText(const ModelCard& card) {
    std::size_t run = 0, longest = 2;
    for (const char c : card.config) {
        run = c == '`' ? run + 1 : 0;
        longest = std::max(longest, run);
    }
    const std::string fence(longest + 1, '`');
    const std::string end = card.config.ends_with('\n') ? "" : "\n";
    return fmt::format("\n### Configuration\n\nThis configuration produced the model:\n\n{}yaml\n{}{}{}\n", fence,
                       card.config, end, fence);
}

std::string loadingText(const ModelCard& card) {
    return fmt::format(
        "\n### Loading\n\n"
        "```python\n"
        "import torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        "folder = \"path/to/this/folder\"\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.{})\n"
        "```\n\n"
        "`aimerge verify path/to/this/folder` checks every file against `aimerge_manifest.json`.\n",
        card.dtype);
}

}  // namespace

std::string modelCardText(const ModelCard& card) {
    std::string text = frontMatter(card);
    text += fmt::format("# {}\n\nThis is a merge of pre-trained language models, made with aimerge {}.\n\n", card.title,
                        kVersion);
    return text + methodText(card) + modelsText(card) + calibrationText(card) + configText(card) + loadingText(card);
}

}  // namespace aimerge
