// model.safetensors.index.json of a folder that has one shard. No other file may be named by what passes.

#include "fuzz_target.h"

#include "aimerge/safetensors/weight_files.h"

#include <cstdlib>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    fileOf("", "model/a.safetensors");
    const std::filesystem::path index = fileOf(input, "model/model.safetensors.index.json");
    const WeightFiles files = findWeightFiles(index.parent_path());
    for (const std::filesystem::path& path : files.paths)
        if (path != index.parent_path() / "a.safetensors") std::abort();
}

}  // namespace aimerge::fuzz
