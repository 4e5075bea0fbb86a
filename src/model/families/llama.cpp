// Llama 2 and 3: Touvron et al. 2023, arXiv 2307.09288; Grattafiori et al. 2024, arXiv 2407.21783.

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kLlama{.modelType = "llama"};

}  // namespace aimerge
