#pragma once
// The vocabulary of a model folder's tokenizer: which string has which id, and which strings were added to the trained
// vocabulary afterwards. Read from the tokenizer's files alone; nothing is tokenised here.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aimerge {

/// The flags are those of an entry of `added_tokens` in tokenizer.json; they mean nothing for tokens that were not added.
struct Token {
    std::string text;
    std::int64_t id = 0;
    bool added = false;    // listed among the added tokens
    bool special = false;  // control token, as <s>; removed by decode(skip_special_tokens)
    bool singleWord = false;
    bool stripsLeft = false;
    bool stripsRight = false;
    bool normalized = false;
};

class Vocabulary {
public:
    /// @param tokens in any order; of two with one text the first counts
    explicit Vocabulary(std::vector<Token> tokens);
    Vocabulary(Vocabulary&&) noexcept = default;
    Vocabulary& operator=(Vocabulary&&) noexcept = default;

    /// Reads tokenizer.json (BPE, WordPiece, WordLevel, Unigram), or else tokenizer.model (SentencePiece) with
    /// added_tokens.json, and added_tokens_decoder of tokenizer_config.json with either; or else vocab.json, where merges.txt is
    /// beside it, with added_tokens_decoder, or, where that is not, special_tokens_map.json and added_tokens.json.
    /// @throws InputError when none of them is there, or one is damaged; names file and key
    static Vocabulary read(const std::filesystem::path& folder);

    const std::vector<Token>& tokens() const { return tokens_; }  // by ascending id
    const Token* find(std::string_view text) const;

private:
    std::vector<Token> tokens_;
    std::unordered_map<std::string_view, std::size_t> byText_;  // views into tokens_, whose heap block moves with the object
};

}  // namespace aimerge
