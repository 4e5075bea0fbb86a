#pragma once
// Evaluation suites: rows, each an item, of the files that corpora are written in too (corpus/corpus_files.h), or a .txt
// file as one text.
//
//     {"task", "prompt", "target"}              exact match of the greedy continuation
//     {"task", "prompt", "choices", "answer"}   the choice with the largest log-likelihood
//     {"task", "text"}                          perplexity
//
// Choices that each follow a prompt of their own have `prompts` instead. `lengths` (a number per choice) are what acc_norm
// divides by, where that is not the choice's own length. `prompt`, `target`, `choices` and `text` may be token ids instead:
// `context_ids`, `continuation_ids` (for choices a list per choice), `text_ids`.

#include <cstdint>
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
    std::string place;                        // "FILE:LINE", for messages
    SuiteText context;                        // the prompt; of ItemKind::Text unused
    std::vector<SuiteText> ownContexts = {};  // one per choice, instead of `context`; else empty
    std::vector<SuiteText> continuations;     // the target; the choices; the text
    std::vector<double> lengths = {};         // one per choice, above 0; empty: those of the choices
    std::size_t answer = 0;                   // of choices: the right one

    const SuiteText& contextOf(std::size_t continuation) const {
        return ownContexts.empty() ? context : ownContexts[continuation];
    }
};

/// @param path a file, a folder or a pattern
/// @throws InputError naming file, line and key: unreadable file, bad JSON, a missing, unknown or mistyped key, a task whose
///         items are of different kinds, an answer that is no choice, a file without items
std::vector<SuiteItem> readSuite(const std::string& path);

/// Several suites together. @throws InputError also when a task stands in two
std::vector<SuiteItem> readSuites(const std::vector<std::string>& paths);

}  // namespace aimerge
