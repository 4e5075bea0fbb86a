#include "aimerge/corpus/tokenizer.h"

#include "aimerge/core/error.h"
#include "corpus/huggingface_tokenizer.h"
#include "corpus/sentencepiece_tokenizer.h"

namespace aimerge {

std::unique_ptr<Tokenizer> openTokenizer(const std::filesystem::path& folder) {
    const bool hasJson = exists(folder / "tokenizer.json"), hasModel = exists(folder / "tokenizer.model");
    const bool hasPieces = exists(folder / "vocab.json") && exists(folder / "merges.txt");
    if (hasJson || (hasPieces && !hasModel)) return std::make_unique<HuggingFaceTokenizer>(folder);
    if (hasModel) return std::make_unique<SentencePieceTokenizer>(folder);
    throw InputError(
        "{}: no tokenizer: neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt is there; fetch it "
        "with the model, or give ready ids in aim.calibration.token_ids",
        folder.string());
}

}  // namespace aimerge
