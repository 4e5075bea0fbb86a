// Phi-3 and Phi-4: Abdin et al. 2024, arXiv 2404.14219.

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kPhi3{.modelType = "phi3", .fusesProjections = true};

}  // namespace aimerge
