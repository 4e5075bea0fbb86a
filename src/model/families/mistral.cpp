// Mistral: Jiang et al. 2023, arXiv 2310.06825. Its window is a matter of config.json (ModelConfig::windows).

#include "model/decoder_family.h"

namespace aimerge {

const DecoderFamily kMistral{.modelType = "mistral"};

}  // namespace aimerge
