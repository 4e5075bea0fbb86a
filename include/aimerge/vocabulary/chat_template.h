#pragma once
// The chat template that the output's tokenizer gets: mergekit's key `chat_template`.

#include "aimerge/config/parameter.h"
#include "aimerge/vocabulary/tokenizer_files.h"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// @param setting "auto": the template that most of the folders have, without white space around it, the first of them where
///        several are as common; a name (chatml, alpaca, llama3, mistral, exaone); or a Jinja text, which is what has a '{'
///        in it
/// @param folders of the models, in the order of the config
/// @return nullopt with a warning when "auto" finds none
/// @throws UsageError with the mark when the setting is none of these; InputError when a tokenizer_config.json is damaged
std::optional<std::string> chatTemplateOf(const std::string& setting, const SourceMark& mark,
                                          std::span<const std::filesystem::path> folders);

/// Makes the template the only one: in tokenizer_config.json, which is made where there is none and which
/// every reader knows, and in chat_template.jinja, where processors of images and sound look. All other files
/// of templates are taken away.
void setChatTemplate(std::vector<TokenizerFile>& files, const std::string& chatTemplate);

/// The folder's own template, as transformers would take it; empty where it has none.
/// @throws InputError when a tokenizer_config.json is damaged
std::string chatTemplateIn(const std::filesystem::path& folder);

}  // namespace aimerge
