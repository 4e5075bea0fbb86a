#pragma once
// Conversations as text, by a chat template, in a Python process (src/tools/render_conversations.py): templates are Jinja,
// whose own engine they are written for.

#include "corpus/corpus.h"
#include "corpus/python_helper.h"
#include "corpus/row_layout.h"

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

class ChatRenderer {
public:
    explicit ChatRenderer(ChatFormat format) : format_(std::move(format)) {}

    /// @param rows JSON objects @param places of each, for messages
    /// @throws InputError when there is no template, or a row is no conversation that the template takes; RuntimeFault
    ///         without Python or jinja2
    std::vector<std::string> render(const std::vector<std::string>& rows, const RowLayout& layout,
                                    const std::vector<std::string>& places);

private:
    ChatFormat format_;
    std::optional<PythonHelper> helper_;  // started by the first conversation
};

}  // namespace aimerge
