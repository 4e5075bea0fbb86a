#pragma once
// The tokenizer files of an output folder: those of one input, with tokens taken out and added as the vocabulary demands.

#include "aimerge/vocabulary/vocabulary_alignment.h"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

/// File names that belong to a tokenizer, wherever they occur: tokenizer.json, tokenizer.model, chat_template.jinja, ...
/// Besides these, every *.tiktoken file does.
std::span<const std::string_view> tokenizerFileNames();

/// A file to be written: a copy of `copyOf`, or `text` when that is empty.
struct TokenizerFile {
    std::string name;
    std::filesystem::path copyOf;
    std::string text;
};

/// The files of `folder`, in the order of tokenizerFileNames() and then *.tiktoken, changed as `output` says: in
/// tokenizer.json new tokens join `added_tokens`, in tokenizer_config.json `added_tokens_decoder` where there is one, and
/// added_tokens.json where it exists or where SentencePiece is all there is. A folder without tokenizer gives no files when
/// nothing is to be changed.
/// @throws InputError when a file to be changed is damaged, or a token without a row is part of the trained vocabulary while
///         new tokens need its id
std::vector<TokenizerFile> outputTokenizerFiles(const std::filesystem::path& folder, const OutputTokenizer& output);

}  // namespace aimerge
