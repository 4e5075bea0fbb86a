#include "aimerge/corpus/token_blocks.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/random.h"
#include "aimerge/core/revision.h"
#include "aimerge/corpus/corpus.h"
#include "aimerge/corpus/packing.h"
#include "aimerge/corpus/token_cache.h"
#include "aimerge/corpus/token_ids_file.h"
#include "aimerge/corpus/tokenizer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <string>

namespace aimerge {
namespace {

/// The files of a folder that decide how text is encoded.
constexpr std::array<const char*, 5> kTokenizerFiles = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                                        "special_tokens_map.json", "added_tokens.json"};

Digest digestOfFile(const std::filesystem::path& path) {
    const File file = File::openForReading(path);
    Hasher hasher;
    std::vector<std::byte> buffer(std::size_t{4} << 20);
    const std::uint64_t size = file.size();
    for (std::uint64_t offset = 0; offset < size; offset += buffer.size()) {
        const auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - offset));
        file.readAt(offset, part);
        hasher.update(part);
    }
    return hasher.digest();
}

/// Everything that decides the blocks: revision, corpus, tokenizer and packing.
Digest cacheKey(const CalibrationConfig& config, const std::filesystem::path& folder) {
    Hasher hasher;
    hasher.updateField(fmt::format("token blocks {}", revision::kTokenBlocks));
    // The extension tells how the corpus is read, its folder and name do not matter.
    const std::filesystem::path corpus = config.corpus;
    hasher.updateField(corpus.stem().extension().string() + corpus.extension().string());
    hasher.updateField(digestOfFile(corpus).hex());
    const auto addFile = [&](const char* name) {
        hasher.updateField(name).updateField(exists(folder / name) ? digestOfFile(folder / name).hex() : "absent");
    };
    for (const char* name : kTokenizerFiles) addFile(name);
    if (!exists(folder / "tokenizer.json") && !exists(folder / "tokenizer.model"))
        for (const char* name : {"vocab.json", "merges.txt", "config.json"}) addFile(name);
    hasher.updateField(fmt::format("packing {} sequences {} length {} seed {} shuffle {}", static_cast<int>(config.packing),
                                   config.sequences, config.sequenceLength, config.seed, config.shuffle));
    for (const std::string& key : config.textKeys) hasher.updateField(key);
    return hasher.digest();
}

TokenBlocks encodeCorpus(const CalibrationConfig& config, const std::filesystem::path& folder) {
    const bool stream = config.packing == Packing::Stream;
    const Corpus corpus =
        Corpus::open(config.corpus, config.textKeys, stream ? Corpus::TextUnit::WholeFile : Corpus::TextUnit::Line);
    std::vector<std::size_t> order(corpus.documents());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (config.shuffle) order = seededPermutation(corpus.documents(), config.seed);
    const PackingRequest request{.corpus = corpus,
                                 .order = std::move(order),
                                 .sequences = config.sequences,
                                 .sequenceLength = config.sequenceLength,
                                 .corpusName = config.corpus};
    const auto tokenizer = openTokenizer(folder);
    return stream ? packStream(request, *tokenizer) : packLines(request, *tokenizer);
}

/// Ids that the tokenizer gives beyond the embedding: added tokens for which the model has no row.
void requireWithinVocabulary(const TokenBlocks& blocks, std::int64_t vocabSize, const std::string& corpus) {
    for (std::size_t index = 0; index < blocks.ids.size(); ++index)
        if (blocks.ids[index] < 0 || blocks.ids[index] >= vocabSize)
            throw InputError(
                "{}: block {}, position {}: the tokenizer gives the id {}, which is outside the model's vocabulary (0 to "
                "{}); do tokenizer and model belong together?",
                corpus, index / static_cast<std::size_t>(blocks.length), index % static_cast<std::size_t>(blocks.length),
                blocks.ids[index], vocabSize - 1);
}

}  // namespace

Digest digestOf(const TokenBlocks& blocks) {
    const std::array<std::int64_t, 2> shape = {blocks.blocks, blocks.length};
    return Hasher().update(std::as_bytes(std::span(shape))).update(std::as_bytes(std::span(blocks.ids))).digest();
}

TokenBlocks loadTokenBlocks(const CalibrationConfig& config, const Checkpoint& base) {
    const std::int64_t vocabSize = base.modelConfig().vocabSize;
    if (!config.tokenIds.empty()) return readTokenIds(config.tokenIds, vocabSize);

    const TokenCache cache = TokenCache::ofUser();
    const Digest key = cacheKey(config, base.folder());
    std::optional<TokenBlocks> blocks = cache.find(key);
    if (!blocks) {
        blocks = encodeCorpus(config, base.folder());
        cache.store(key, *blocks);
    }
    requireWithinVocabulary(*blocks, vocabSize, config.corpus);
    const std::int64_t wanted = config.sequences * config.sequenceLength, found = blocks->blocks * blocks->length;
    if (config.packing == Packing::Stream && found < wanted)
        spdlog::warn("{}: shorter than asked for, and used as far as it goes: {} sequences of {} tokens instead of {} of {}",
                     config.corpus, blocks->blocks, blocks->length, config.sequences, config.sequenceLength);
    return *std::move(blocks);
}

}  // namespace aimerge
