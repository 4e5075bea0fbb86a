#pragma once
// tokenizer.json, or vocab.json with merges.txt, encoded by the Hugging Face `tokenizers` library in a Python process
// (src/tools/encode_documents.py). Writing that library's many models, normalisers and pre-tokenisers again would be the
// surer way to differ from it.

#include "aimerge/core/helper_process.h"
#include "aimerge/corpus/tokenizer.h"

namespace aimerge {

class HuggingFaceTokenizer : public Tokenizer {
public:
    explicit HuggingFaceTokenizer(const std::filesystem::path& folder);
    std::vector<TokenIds> encode(const std::vector<std::string>& documents) override;

private:
    HelperProcess process_;
};

}  // namespace aimerge
