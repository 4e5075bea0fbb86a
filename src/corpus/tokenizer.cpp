#include "aimerge/corpus/tokenizer.h"

#include "aimerge/core/error.h"
#include "corpus/huggingface_tokenizer.h"
#include "corpus/sentencepiece_tokenizer.h"

namespace aimerge {

std::unique_ptr<Tokenizer> openTokenizer(const std::filesystem::path& folder) {
    if (exists(folder / "tokenizer.json")) return std::make_unique<HuggingFaceTokenizer>(folder);
    if (exists(folder / "tokenizer.model")) return std::make_unique<SentencePieceTokenizer>(folder);
    throw InputError(
        "{}: no tokenizer: neither tokenizer.json nor tokenizer.model is there; fetch it with the model, or give "
        "ready ids in aim.calibration.token_ids",
        folder.string());
}

}  // namespace aimerge
