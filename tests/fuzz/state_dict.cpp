// The pickle of a state dict, without an archive around it.

#include "fuzz_target.h"

#include "pytorch/state_dict.h"

#include <cstdlib>
#include <set>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    const StateDict dict = readStateDict(input, "pytorch_model.bin");
    std::set<std::string> names;
    for (const PickledTensor& tensor : dict.tensors) {
        if (tensor.storage >= dict.storages.size() || !names.insert(tensor.name).second) std::abort();
        if (elementCount(tensor.shape) < 0) std::abort();
    }
}

}  // namespace aimerge::fuzz
