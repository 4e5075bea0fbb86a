#include "cli/mergekit_names.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

struct Instead {
    std::string_view name;
    const char* text;
};

constexpr const char* kNotNeeded = "not needed here: it is so by itself";

constexpr std::array kOptions{
    Instead{"--cuda", "here it is --device cuda"},
    Instead{"--gpu-rich", "here it is --device cuda"},
    Instead{"--no-cuda", "here it is --device cpu"},
    Instead{"--multi-gpu", "here it is mpirun -n GPUS aimerge merge ... --device cuda, a rank for each GPU"},
    Instead{"--low-cpu-memory", "not needed here: weights are merged piece by piece; --memory-limit bounds a calibration"},
    Instead{"--read-to-gpu", "not needed here: with --device cuda weights go to the GPU piece by piece"},
    Instead{"--num-threads", "here it is --threads"},
    Instead{"-j", "here it is --threads"},
    Instead{"-v", "here it is --log-level debug"},
    Instead{"--quiet", "here it is --progress none, and --log-level warn"},
    Instead{"--random-seed", "here it is the config's key seed, or --set seed=42"},
    Instead{"--out-shard-size", "here it is --max-shard-size, with a unit: 1GB for mergekit's 1B"},
    Instead{"--unsafe-truncate-embeddings", "here it is a key of the config, or --set unsafe_truncate_embeddings=true"},
    Instead{"--allow-crimes", "here it has the same name"},
    Instead{"--transformers-cache", "here it is the environment variable HF_HUB_CACHE"},
    Instead{"--lora-merge-cache", "not needed here: adapters are applied while merging"},
    Instead{"--lora-merge-dtype", "not needed here: adapters are applied in float32 and not rounded"},
    Instead{"--lazy-unpickle", "not needed here: weights are merged piece by piece, and no pickle is executed"},
    Instead{"--trust-remote-code", "not needed here: no code of a model is run"},
    Instead{"--clone-tensors", "not needed here: each layer is written by itself"},
    Instead{"--async-write", "not needed here: all threads and ranks write"},
    Instead{"--write-threads", "not needed here: all threads and ranks write"},
    Instead{"--copy-tokenizer", kNotNeeded},
    Instead{"--write-model-card", kNotNeeded},
    Instead{"--safe-serialization", kNotNeeded},
    Instead{"--no-copy-tokenizer", "the tokenizer is always written; remove it from the output"},
    Instead{"--no-write-model-card", "the model card is always written; remove README.md from the output"},
    Instead{"--no-safe-serialization", "aimerge writes safetensors only"},
};

constexpr std::array kPrograms{
    Instead{"yaml",
            "here it is `aimerge merge CONFIG OUT`; the program mergekit-yaml beside aimerge takes mergekit's options"},
    Instead{"multi", "here it is `aimerge merge CONFIG OUT`, with several documents in CONFIG"},
    Instead{"moe", "aimerge does not build mixtures of experts; it merges those of one architecture"},
    Instead{"evolve", "aimerge has no search by evolution; `aimerge sweep` merges and scores a grid"},
    Instead{"extract-lora", "aimerge does not make adapters; it takes them wherever a model is named, as BASE+ADAPTER"},
    Instead{"tokensurgeon",
            "aimerge does not transplant tokenizers; `tokenizer_source` of a config brings vocabularies together"},
    Instead{"layershuffle", "here it is `aimerge merge` with 'slices' and merge_method passthrough"},
    Instead{"bakllama", "here it is `aimerge merge` with 'slices' and merge_method passthrough"},
    Instead{"legacy", "here it is `aimerge merge --method METHOD --base BASE --models A,B --out DIR`"},
    Instead{"pytorch", "aimerge merges model folders, not single weight files"},
};

template <std::size_t kCount>
std::string textOf(const std::array<Instead, kCount>& answers, std::string_view name) {
    const auto found = std::ranges::find(answers, name, &Instead::name);
    return found == answers.end() ? "" : found->text;
}

}  // namespace

std::string insteadOfMergekitOption(std::string_view option) {
    std::string text = textOf(kOptions, option);
    constexpr std::string_view kNo = "--no-";
    const bool isSwitchedOff = text.empty() && option.starts_with(kNo);
    return isSwitchedOff && !textOf(kOptions, "--" + std::string(option.substr(kNo.size()))).empty() ? kNotNeeded : text;
}

std::string insteadOfMergekitProgram(std::string_view name) {
    constexpr std::string_view kPrefix = "mergekit-";
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
    return textOf(kPrograms, name);
}

}  // namespace aimerge
