#include "corpus/chat_renderer.h"

#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

namespace aimerge {

using nlohmann::json;

std::vector<std::string> ChatRenderer::render(const std::vector<std::string>& rows, const RowLayout& layout,
                                              const std::vector<std::string>& places) {
    if (rows.empty()) return {};
    if (format_.chatTemplate.empty())
        throw InputError(
            "{}: a conversation, and {} has no chat template that would make it a text; name one in "
            "calibration.chat_template "
            "(chatml, alpaca, llama3, mistral, exaone, or a Jinja text), or the keys of plain texts in calibration.text_key",
            places.front(), format_.tokenizerFolder.string());
    if (!helper_) {
        helper_.emplace("render_conversations.py", std::vector<std::string>{format_.tokenizerFolder.string()}, "jinja2");
        helper_->request(json{{"template", format_.chatTemplate}}.dump());
        spdlog::info("{}: a conversation; these become text by the chat template", places.front());
    }
    const json request{{"keys", layout.keys}, {"is_instruction", layout.isInstruction}, {"rows", rows}};
    const json answer = json::parse(helper_->request(request.dump()));
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (answer.at(i).contains("error"))
            throw InputError("{}: {}", places[i], answer.at(i).at("error").get_ref<const std::string&>());
        texts.push_back(answer.at(i).at("text"));
    }
    return texts;
}

}  // namespace aimerge
