#pragma once
// Text to token ids as the model's own tokenizer does it, special tokens included: a BOS where transformers puts one.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

using TokenIds = std::vector<std::int32_t>;

/// Whether those are added that the model expects around a text. A rendered conversation has its own.
enum class SpecialTokens { Added, None };

class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    /// One list per document. @pre documents are valid UTF-8
    std::vector<TokenIds> encode(const std::vector<std::string>& documents, SpecialTokens special = SpecialTokens::Added) {
        return encodeWith(documents, special);
    }

private:
    virtual std::vector<TokenIds> encodeWith(const std::vector<std::string>& documents, SpecialTokens special) = 0;
};

/// tokenizer.json is encoded by the Hugging Face `tokenizers` library in a Python process of its own, tokenizer.model by
/// SentencePiece in this process; a folder with both uses the first, as transformers does. A folder with neither may have
/// vocab.json and merges.txt, of which the Python process makes a tokenizer.
/// @throws InputError when the folder has none of these or they are damaged; RuntimeFault when
/// Python or the package is missing
std::unique_ptr<Tokenizer> openTokenizer(const std::filesystem::path& folder);

}  // namespace aimerge
