#pragma once
// The tokenizer files of an output folder: those of one input, with tokens taken out and added as the vocabulary demands.

#include "aimerge/vocabulary/vocabulary_alignment.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

/// A folder with templates by name, NAME.jinja, beside the default one of chat_template.jinja.
inline constexpr const char* kAdditionalChatTemplates = "additional_chat_templates";

/// Names of the folder's files that belong to its tokenizer (tokenizer.json, tokenizer.model, chat_template.jinja, ...,
/// *.tiktoken, additional_chat_templates/*.jinja), in an order that depends on nothing but the names.
std::vector<std::string> tokenizerFilesIn(const std::filesystem::path& folder);

/// Those of additional_chat_templates, with that folder's name.
std::vector<std::string> additionalChatTemplates(const std::filesystem::path& folder);

/// A file to be written: a copy of `copyOf`, or `text` when that is empty.
struct TokenizerFile {
    std::string name;
    std::filesystem::path copyOf;
    std::string text;
};

/// The files of tokenizerFilesIn(folder), changed as `output` says: in tokenizer.json new tokens join `added_tokens`, in
/// tokenizer_config.json `added_tokens_decoder` where there is one, and added_tokens.json where it exists or where there is
/// no tokenizer.json. Beside vocab.json the decoder is made, with what special_tokens_map.json and added_tokens.json say. A
/// folder without tokenizer gives no files when nothing is to be changed.
/// @throws InputError when a file to be changed is damaged, or a token without a row is part of the trained vocabulary while
///         new tokens need its id
std::vector<TokenizerFile> outputTokenizerFiles(const std::filesystem::path& folder, const OutputTokenizer& output);

}  // namespace aimerge
