// Qwen 2 and 2.5: arXiv 2407.10671, 2412.15115. The biases of q_proj, k_proj and v_proj are taken where they are stored.

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kQwen2{.modelType = "qwen2"};

}  // namespace aimerge
