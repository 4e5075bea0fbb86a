#include "aimerge/vocabulary/chat_template.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kKey = "chat_template";

struct NamedTemplate {
    const char* name;
    const char* jinja;
};

// The formats as their makers publish them, told turn by turn.
constexpr NamedTemplate kTemplates[] = {
    {"chatml",
     "{%- for turn in messages -%}\n"
     "{{- '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' -}}\n"
     "{%- endfor -%}\n"
     "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"},
    {"alpaca",
     "{%- for turn in messages -%}\n"
     "{%- if turn['role'] == 'system' -%}{{- turn['content'] + '\\n\\n' -}}\n"
     "{%- elif turn['role'] == 'user' -%}{{- '### Instruction:\\n' + turn['content'] + '\\n\\n' -}}\n"
     "{%- elif turn['role'] == 'assistant' -%}{{- '### Response:\\n' + turn['content'] + eos_token + '\\n\\n' -}}\n"
     "{%- endif -%}\n"
     "{%- endfor -%}\n"
     "{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}\n"},
    {"llama3",
     "{{- bos_token -}}\n"
     "{%- for turn in messages -%}\n"
     "{{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' -}}\n"
     "{%- endfor -%}\n"
     "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}\n"},
    {"mistral",
     "{{- bos_token -}}\n"
     "{%- set before = namespace(text='') -%}\n"
     "{%- for turn in messages -%}\n"
     "{%- if turn['role'] == 'system' -%}{%- set before.text = turn['content'] + '\\n\\n' -%}\n"
     "{%- elif turn['role'] == 'user' -%}\n"
     "{{- '[INST] ' + before.text + turn['content'] + ' [/INST]' -}}{%- set before.text = '' -%}\n"
     "{%- elif turn['role'] == 'assistant' -%}{{- ' ' + turn['content'] | trim + eos_token -}}\n"
     "{%- endif -%}\n"
     "{%- endfor -%}\n"},
    {"exaone",
     "{%- for turn in messages -%}\n"
     "{%- if loop.first and turn['role'] != 'system' -%}{{- '[|system|][|endofturn|]\\n' -}}{%- endif -%}\n"
     "{{- '[|' + turn['role'] + '|]' + turn['content'] -}}\n"
     "{%- if turn['role'] != 'user' -%}{{- '[|endofturn|]' -}}{%- endif -%}\n"
     "{{- '\\n' -}}\n"
     "{%- endfor -%}\n"
     "{%- if add_generation_prompt -%}{{- '[|assistant|]' -}}{%- endif -%}\n"},
};

ordered_json parseConfig(const fs::path& path, const std::string& text) {
    ordered_json root = ordered_json::parse(text, nullptr, false);
    if (!root.is_object()) throw InputError("{}: not a JSON object", path.string());
    return root;
}

/// Empty when the folder has none. Of several named templates, the default one.
std::string templateIn(const fs::path& folder) {
    if (const fs::path file = folder / "chat_template.jinja"; fs::exists(file)) return readTextFile(file);
    const fs::path file = folder / kConfigName;
    if (!fs::exists(file)) return {};
    const ordered_json root = parseConfig(file, readTextFile(file));
    ordered_json found = root.value(kKey, ordered_json());
    if (found.is_array()) {
        const auto isDefault = [](const ordered_json& entry) {
            return entry.is_object() && entry.value("name", ordered_json()) == "default";
        };
        const auto entry = std::ranges::find_if(found, isDefault);
        found = entry != found.end() ? entry->value("template", ordered_json()) : ordered_json();
    }
    return found.is_string() ? found.get<std::string>() : std::string();
}

std::optional<std::string> mostCommon(std::span<const fs::path> folders) {
    std::vector<std::pair<std::string, int>> counts;  // in the order of the folders
    for (const fs::path& folder : folders) {
        std::string text = templateIn(folder);
        if (text.empty()) continue;
        const auto known = std::ranges::find(counts, text, &std::pair<std::string, int>::first);
        if (known == counts.end())
            counts.emplace_back(std::move(text), 1);
        else
            ++known->second;
    }
    const auto best = std::ranges::max_element(counts, {}, &std::pair<std::string, int>::second);
    if (best == counts.end()) return std::nullopt;
    return best->first;
}

}  // namespace

std::optional<std::string> chatTemplateOf(const std::string& setting, const SourceMark& mark,
                                          std::span<const fs::path> folders) {
    if (setting == "auto") {
        std::optional<std::string> found = mostCommon(folders);
        if (!found) spdlog::warn("{}: no model has a chat template, so the output has none", mark.text());
        return found;
    }
    std::vector<std::string> names{"auto"};
    for (const NamedTemplate& known : kTemplates) {
        if (setting == known.name) return known.jinja;
        names.emplace_back(known.name);
    }
    if (setting.find('{') != std::string::npos) return setting;
    const std::string nearest = nearestName(setting, names);
    throw UsageError("{}: chat_template must be one of {}, or a Jinja text, found '{}'{}", mark.text(),
                     fmt::join(names, ", "), setting, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

void setChatTemplate(std::vector<TokenizerFile>& files, const std::string& chatTemplate) {
    std::erase_if(files, [](const TokenizerFile& file) {
        return file.name == "chat_template.jinja" || file.name == "chat_template.json";
    });
    auto config = std::ranges::find(files, kConfigName, &TokenizerFile::name);
    if (config == files.end()) config = files.insert(files.end(), {kConfigName, {}, "{}"});
    ordered_json root = parseConfig(config->copyOf, config->copyOf.empty() ? config->text : readTextFile(config->copyOf));
    root[kKey] = chatTemplate;
    *config = {kConfigName, {}, root.dump(2) + "\n"};
}

std::string chatTemplateIn(const fs::path& folder) {
    return templateIn(folder);
}

}  // namespace aimerge
