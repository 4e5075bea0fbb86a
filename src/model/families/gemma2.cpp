// Gemma 2: arXiv 2408.00118. Its soft caps and windows are a matter of config.json.

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kGemma2{.modelType = "gemma2", .normalisesOutputs = true, .shiftsNorms = true, .scalesEmbeddings = true};

}  // namespace aimerge
