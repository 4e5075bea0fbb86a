#include "corpus/huggingface_tokenizer.h"

#include "aimerge/core/error.h"

#include <bit>
#include <cstring>
#include <string_view>

namespace aimerge {
namespace {

static_assert(std::endian::native == std::endian::little, "messages hold little-endian numbers as they lie in memory");

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

}  // namespace

HuggingFaceTokenizer::HuggingFaceTokenizer(const std::filesystem::path& folder)
    : helper_("encode_documents.py", {folder.string()}, "tokenizers") {}

std::vector<TokenIds> HuggingFaceTokenizer::encodeWith(const std::vector<std::string>& documents, SpecialTokens special) {
    std::string message;
    appendNumber(message, special == SpecialTokens::Added ? 1 : 0);
    appendNumber(message, documents.size());
    for (const std::string& document : documents) {
        appendNumber(message, document.size());
        message += document;
    }
    const std::string answer = helper_.request(message);
    std::string_view content = answer;
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
