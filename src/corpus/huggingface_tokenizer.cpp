#include "corpus/huggingface_tokenizer.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

namespace aimerge {
namespace {

static_assert(std::endian::native == std::endian::little, "messages hold little-endian numbers as they lie in memory");

constexpr std::string_view kHint =
    "run ./launch/setup.sh, or set AIMERGE_PYTHON to an interpreter with the package `tokenizers`";

std::vector<std::string> commandFor(const std::filesystem::path& folder) {
    const std::filesystem::path script = environment::toolsDirectory() / "encode_documents.py";
    if (!exists(script))
        throw RuntimeFault("{}: the script that encodes text is not there; set AIMERGE_TOOLS_DIR to the folder src/tools",
                           script.string());
    return {environment::pythonInterpreter(), script.string(), folder.string()};
}

void appendNumber(std::string& text, std::uint64_t number) {
    text.append(reinterpret_cast<const char*>(&number), sizeof number);
}

/// Takes the first bytes off a message.
template <typename T>
void take(std::string_view& message, T* out, std::size_t count) {
    if (count > message.size() / sizeof(T)) throw RuntimeFault("encode_documents.py: the answer ends too early");
    if (count > 0) std::memcpy(out, message.data(), count * sizeof(T));
    message.remove_prefix(count * sizeof(T));
}

/// The content of an answer, whose first byte says what it is.
std::string_view contentOf(const std::string& answer) {
    const std::string_view content = std::string_view(answer).substr(std::min<std::size_t>(1, answer.size()));
    switch (answer.empty() ? '\0' : answer.front()) {
        case 'I':
            return content;
        case 'E':
            throw InputError("{}", content);
        case 'S':
            throw RuntimeFault("{}", content);
        default:
            throw RuntimeFault("encode_documents.py: an answer of unknown kind");
    }
}

}  // namespace

HuggingFaceTokenizer::HuggingFaceTokenizer(const std::filesystem::path& folder)
    : process_(commandFor(folder), std::string(kHint)) {
    contentOf(process_.receive());
}

std::vector<TokenIds> HuggingFaceTokenizer::encode(const std::vector<std::string>& documents) {
    std::string message;
    appendNumber(message, documents.size());
    for (const std::string& document : documents) {
        appendNumber(message, document.size());
        message += document;
    }
    const std::string answer = process_.request(message);
    std::string_view content = contentOf(answer);
    std::vector<TokenIds> encoded(documents.size());
    for (TokenIds& ids : encoded) {
        std::uint64_t count = 0;
        take(content, &count, 1);
        if (count > content.size() / sizeof(std::int32_t))
            throw RuntimeFault("encode_documents.py: the answer ends too early");
        ids.resize(count);
        take(content, ids.data(), ids.size());
    }
    if (!content.empty()) throw RuntimeFault("encode_documents.py: the answer has bytes beyond the last document");
    return encoded;
}

}  // namespace aimerge
