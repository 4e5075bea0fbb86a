#pragma once
// tokenizer.model, encoded by SentencePiece in this process as transformers' LlamaTokenizer does it (its `legacy`
// behaviour): added tokens, BOS, EOS and UNK are cut out of the text first; every piece between them is encoded on its own,
// with the dummy prefix that the model file asks for; add_bos_token is true and add_eos_token false unless
// tokenizer_config.json says otherwise.

#include "aimerge/corpus/tokenizer.h"
#include "aimerge/vocabulary/vocabulary.h"

#include <sentencepiece_processor.h>

#include <string_view>

namespace aimerge {

class SentencePieceTokenizer : public Tokenizer {
public:
    explicit SentencePieceTokenizer(const std::filesystem::path& folder);

private:
    std::vector<TokenIds> encodeWith(const std::vector<std::string>& documents, SpecialTokens special) override;
    TokenIds encodeOne(std::string_view text, SpecialTokens special) const;
    void encodePiece(std::string_view text, TokenIds& ids) const;
    const Token* splitTokenAt(std::string_view text) const;

    std::filesystem::path file_;
    sentencepiece::SentencePieceProcessor processor_;
    std::vector<Token> splitTokens_;  // longest first: of tokens that begin alike the longest is meant
    TokenIds before_, after_;         // BOS and EOS, where they are added
};

}  // namespace aimerge
