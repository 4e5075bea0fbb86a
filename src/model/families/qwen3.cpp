// Qwen 3: arXiv 2505.09388.

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kQwen3{.modelType = "qwen3", .normalisesHeads = true};

}  // namespace aimerge
