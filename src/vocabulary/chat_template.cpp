#include "aimerge/vocabulary/chat_template.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"
#include "vocabulary/named_chat_templates.h"

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
constexpr const char* kJinjaName = "chat_template.jinja";
constexpr const char* kProcessorName = "chat_template.json";
constexpr const char* kKey = "chat_template";
constexpr const char* kDefault = "default";

ordered_json parseConfig(const fs::path& path, const std::string& text) {
    ordered_json root = ordered_json::parse(text, nullptr, false);
    if (!root.is_object()) throw InputError("{}: not a JSON object", path.string());
    return root;
}

/// What Python's strip() leaves of ASCII text; mergekit's `auto` counts templates without the white space around them.
std::string stripped(const std::string& text) {
    constexpr const char* kWhiteSpace = " \t\n\v\f\r";
    const std::size_t begin = text.find_first_not_of(kWhiteSpace);
    return begin == std::string::npos ? std::string() : text.substr(begin, text.find_last_not_of(kWhiteSpace) + 1 - begin);
}

/// The value of `chat_template` in a JSON file: a text, a list of {name, template}, or an object of them. Of several the
/// default one; empty when there is none.
std::string templateInJson(const fs::path& file) {
    if (!fs::exists(file)) return {};
    ordered_json found = parseConfig(file, readTextFile(file)).value(kKey, ordered_json());
    if (found.is_array()) {
        const auto isDefault = [](const ordered_json& entry) {
            return entry.is_object() && entry.value("name", ordered_json()) == kDefault;
        };
        const auto entry = std::ranges::find_if(found, isDefault);
        found = entry != found.end() ? entry->value("template", ordered_json()) : ordered_json();
    } else if (found.is_object()) {
        found = found.value(kDefault, ordered_json());
    }
    return found.is_string() ? found.get<std::string>() : std::string();
}

/// The template that transformers uses when none is named: files of templates hide that of tokenizer_config.json, also
/// where none of them is the default one. Else that of chat_template.json, which processors of images and sound use. Empty
/// when the folder has none.
std::string templateIn(const fs::path& folder) {
    const std::vector<std::string> named = additionalChatTemplates(folder);
    for (const fs::path& file : {folder / kAdditionalChatTemplates / "default.jinja", folder / kJinjaName})
        if (fs::exists(file)) return readTextFile(file);
    const std::string own = named.empty() ? templateInJson(folder / kConfigName) : std::string();
    return stripped(own).empty() ? templateInJson(folder / kProcessorName) : own;
}

std::optional<std::string> mostCommon(std::span<const fs::path> folders) {
    std::vector<std::pair<std::string, int>> counts;  // in the order of the folders
    for (const fs::path& folder : folders) {
        std::string text = stripped(templateIn(folder));
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
    for (const NamedChatTemplate& known : kNamedChatTemplates) {
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
        return file.name == kJinjaName || file.name == kProcessorName ||
               fs::path(file.name).parent_path() == kAdditionalChatTemplates;
    });
    auto config = std::ranges::find(files, kConfigName, &TokenizerFile::name);
    if (config == files.end()) config = files.insert(files.end(), {kConfigName, {}, "{}"});
    ordered_json root = parseConfig(config->copyOf, config->copyOf.empty() ? config->text : readTextFile(config->copyOf));
    root[kKey] = chatTemplate;
    *config = {kConfigName, {}, root.dump(2) + "\n"};
    files.push_back({kJinjaName, {}, chatTemplate});
}

std::string chatTemplateIn(const fs::path& folder) {
    return templateIn(folder);
}

}  // namespace aimerge
