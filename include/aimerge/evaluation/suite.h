#pragma once
// Evaluation suites: JSONL files with one item per line, or a .txt file as one text.
//
//     {"task", "prompt", "target"}              exact match of the greedy continuation
//     {"task", "prompt", "choices", "answer"}   the choice with the largest log-likelihood
//     {"task", "text"}                          perplexity
//
// `prompt`, `target`, `choices` and `text` may be token ids instead: `context_ids`, `continuation_ids` (for choices a list
// per choice), `text_ids`.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

enum class ItemKind { Continuation, Choices, Text };

/// Text, or token ids where isEncoded.
struct SuiteText {
    std::string text;
    std::vector<std::int32_t> ids;
    bool isEncoded = false;
};

struct SuiteItem {
    std::string task;
    ItemKind kind = ItemKind::Continuation;
    std::string place;                     // "FILE:LINE", for messages
    SuiteText context;                     // the prompt; of ItemKind::Text unused
    std::vector<SuiteText> continuations;  // the target; the choices; the text
    std::size_t answer = 0;                // of choices: the right one
};

/// @throws InputError naming file, line and key: unreadable file, bad JSON, a missing, unknown or mistyped key, a task whose
///         items are of different kinds, an answer that is no choice, a file without items
std::vector<SuiteItem> readSuite(const std::filesystem::path& path);

/// Of several files together. @throws InputError also when a task stands in two files
std::vector<SuiteItem> readSuites(const std::vector<std::string>& paths);

}  // namespace aimerge
