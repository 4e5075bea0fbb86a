#include "aimerge/corpus/token_blocks.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/random.h"
#include "aimerge/core/revision.h"
#include "aimerge/corpus/corpus_files.h"
#include "aimerge/corpus/tokenizer.h"
#include "aimerge/vocabulary/chat_template.h"
#include "corpus/corpus.h"
#include "corpus/packing.h"
#include "corpus/token_cache.h"
#include "corpus/token_ids_file.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <functional>
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

/// A corpus source, looked up.
struct Source {
    std::string name;
    std::vector<std::filesystem::path> files;
    double share = 0;
};

std::vector<Source> sourcesOf(const CalibrationConfig& config) {
    std::vector<Source> sources;
    for (const CorpusSource& source : config.corpus)
        sources.push_back({source.path, corpusFiles(source.path), source.share});
    return sources;
}

bool haveShares(const std::vector<Source>& sources) {
    return sources.front().share > 0;
}

/// The model's own, or what the config names. Empty where there is none.
std::string chatTemplateFor(const CalibrationConfig& config, const std::filesystem::path& folder) {
    if (config.chatTemplate.empty()) return chatTemplateIn(folder);
    return chatTemplateOf(config.chatTemplate, config.mark, std::span(&folder, 1)).value_or("");
}

/// Everything that decides the blocks: revision, corpus, tokenizer, chat template and packing.
Digest cacheKey(const CalibrationConfig& config, const std::vector<Source>& sources, const std::filesystem::path& folder,
                const std::string& chatTemplate) {
    Hasher hasher;
    hasher.updateField(fmt::format("token blocks {}", revision::kTokenBlocks));
    for (const Source& source : sources) {
        hasher.updateField(fmt::format("{} files, share {}", source.files.size(), source.share));
        for (const std::filesystem::path& file : source.files) {
            // The extension tells how a file is read, its folder and name do not matter.
            hasher.updateField(file.stem().extension().string() + file.extension().string());
            hasher.updateField(digestOfFile(file).hex());
        }
    }
    const auto addFile = [&](const char* name) {
        hasher.updateField(name).updateField(exists(folder / name) ? digestOfFile(folder / name).hex() : "absent");
    };
    for (const char* name : kTokenizerFiles) addFile(name);
    if (!exists(folder / "tokenizer.json") && !exists(folder / "tokenizer.model"))
        for (const char* name : {"vocab.json", "merges.txt", "config.json"}) addFile(name);
    hasher.updateField(chatTemplate);
    hasher.updateField(fmt::format("packing {} sequences {} length {} seed {} shuffle {}", static_cast<int>(config.packing),
                                   config.sequences, config.sequenceLength, config.seed, config.shuffle));
    for (const std::string& key : config.textKeys) hasher.updateField(key);
    return hasher.digest();
}

/// How many of the sequences each source gives: its share, rounded so that the sum is right.
std::vector<std::int64_t> sequencesByShare(const std::vector<Source>& sources, std::int64_t sequences) {
    const double sum = std::accumulate(sources.begin(), sources.end(), 0.0,
                                       [](double total, const Source& source) { return total + source.share; });
    std::vector<std::int64_t> counts;
    std::vector<std::size_t> byRemainder(sources.size());
    std::iota(byRemainder.begin(), byRemainder.end(), std::size_t{0});
    std::vector<double> remainders;
    for (const Source& source : sources) {
        const double exact = source.share / sum * static_cast<double>(sequences);
        counts.push_back(static_cast<std::int64_t>(exact));
        remainders.push_back(exact - static_cast<double>(counts.back()));
    }
    std::ranges::stable_sort(byRemainder, std::greater<>{}, [&](std::size_t source) { return remainders[source]; });
    const std::int64_t missing = sequences - std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    for (std::int64_t i = 0; i < missing; ++i) ++counts[byRemainder[static_cast<std::size_t>(i) % sources.size()]];
    for (std::size_t i = 0; i < sources.size(); ++i)
        if (counts[i] == 0)
            throw InputError("{}: its share of {} sequences is less than one; raise calibration.sequences or the share",
                             sources[i].name, sequences);
    return counts;
}

/// The blocks of all parts, those of each spread evenly over the whole.
TokenBlocks takeTurns(const std::vector<TokenBlocks>& parts) {
    struct Turn {
        double place;
        std::size_t part;
        std::int64_t block;
    };
    std::vector<Turn> turns;
    TokenBlocks all{.blocks = 0, .length = parts.front().length, .ids = {}, .unusedTokens = 0};
    for (std::size_t part = 0; part < parts.size(); ++part) {
        for (std::int64_t block = 0; block < parts[part].blocks; ++block)
            turns.push_back({(static_cast<double>(block) + 0.5) / static_cast<double>(parts[part].blocks), part, block});
        all.blocks += parts[part].blocks;
        all.unusedTokens += parts[part].unusedTokens;
    }
    std::ranges::stable_sort(turns, {}, &Turn::place);
    for (const Turn& turn : turns) {
        const auto begin = parts[turn.part].ids.begin() + turn.block * all.length;
        all.ids.insert(all.ids.end(), begin, begin + all.length);
    }
    return all;
}

class CorpusEncoder {
public:
    CorpusEncoder(const CalibrationConfig& config, const std::filesystem::path& folder, std::string chatTemplate)
        : config_(config), chat_{folder, std::move(chatTemplate)}, tokenizer_(openTokenizer(folder)) {}

    /// One after another.
    TokenBlocks encode(const std::vector<std::filesystem::path>& files, const std::string& name, std::int64_t sequences) {
        const bool stream = config_.packing == Packing::Stream;
        const Corpus corpus =
            Corpus::open(files, config_.textKeys, stream ? Corpus::TextUnit::WholeFile : Corpus::TextUnit::Line, chat_);
        std::vector<std::size_t> order(corpus.documents());
        std::iota(order.begin(), order.end(), std::size_t{0});
        if (config_.shuffle) order = seededPermutation(corpus.documents(), config_.seed);
        const PackingRequest request{.corpus = corpus,
                                     .order = std::move(order),
                                     .sequences = sequences,
                                     .sequenceLength = config_.sequenceLength,
                                     .corpusName = name};
        return stream ? packStream(request, *tokenizer_) : packLines(request, *tokenizer_);
    }

    TokenBlocks encodeByShare(const std::vector<Source>& sources) {
        const std::vector<std::int64_t> sequences = sequencesByShare(sources, config_.sequences);
        std::vector<TokenBlocks> parts;
        for (std::size_t i = 0; i < sources.size(); ++i) {
            parts.push_back(encode(sources[i].files, sources[i].name, sequences[i]));
            if (parts.back().length != config_.sequenceLength)
                throw InputError(
                    "{}: has {} tokens, fewer than one sequence of {}, and so cannot give its share; use more text "
                    "or lower calibration.sequence_length",
                    sources[i].name, parts.back().length, config_.sequenceLength);
        }
        return takeTurns(parts);
    }

private:
    const CalibrationConfig& config_;
    ChatFormat chat_;
    std::unique_ptr<Tokenizer> tokenizer_;
};

TokenBlocks encodeCorpus(const CalibrationConfig& config, const std::vector<Source>& sources,
                         const std::filesystem::path& folder, const std::string& chatTemplate) {
    CorpusEncoder encoder(config, folder, chatTemplate);
    if (haveShares(sources)) return encoder.encodeByShare(sources);
    std::vector<std::filesystem::path> files;
    for (const Source& source : sources) files.insert(files.end(), source.files.begin(), source.files.end());
    return encoder.encode(files, config.inputName(), config.sequences);
}

void warnWhereShort(const CalibrationConfig& config, const TokenBlocks& blocks, bool haveShares) {
    const std::int64_t wanted = config.sequences * config.sequenceLength, found = blocks.blocks * blocks.length;
    if (config.packing != Packing::Stream || found >= wanted) return;
    spdlog::warn("{}: shorter than asked for, and used as far as it goes: {} sequences of {} tokens instead of {} of {}{}{}",
                 config.inputName(), blocks.blocks, blocks.length, config.sequences, config.sequenceLength,
                 blocks.unusedTokens > 0 ? fmt::format("; {} tokens at the end fill no sequence", blocks.unusedTokens) : "",
                 haveShares ? "; so the shares are not those asked for" : "");
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

TokenBlocks readySequences(const CalibrationConfig& config, std::int64_t vocabSize) {
    TokenBlocks blocks = readTokenIds(config.tokenIds, vocabSize);
    if (config.sequenceLength > 0 && config.sequenceLength != blocks.length)
        throw InputError("{}: has sequences of {} tokens, calibration.sequence_length is {}; leave it out or cut the ids",
                         config.tokenIds, blocks.length, config.sequenceLength);
    if (config.sequences > blocks.blocks)
        spdlog::warn("{}: has {} sequences, fewer than the {} asked for; all of them are used", config.tokenIds,
                     blocks.blocks, config.sequences);
    if (config.sequences > 0 && config.sequences < blocks.blocks) {
        blocks.blocks = config.sequences;
        blocks.ids.resize(static_cast<std::size_t>(blocks.blocks * blocks.length));
    }
    return blocks;
}

}  // namespace

Digest digestOf(const TokenBlocks& blocks) {
    const std::array<std::int64_t, 2> shape = {blocks.blocks, blocks.length};
    return Hasher().update(std::as_bytes(std::span(shape))).update(std::as_bytes(std::span(blocks.ids))).digest();
}

TokenBlocks loadTokenBlocks(const CalibrationConfig& config, const Checkpoint& base) {
    const std::int64_t vocabSize = base.modelConfig().vocabSize;
    if (!config.tokenIds.empty()) return readySequences(config, vocabSize);

    const std::vector<Source> sources = sourcesOf(config);
    const std::string chatTemplate = chatTemplateFor(config, base.folder());
    const TokenCache cache = TokenCache::ofUser();
    const Digest key = cacheKey(config, sources, base.folder(), chatTemplate);
    std::optional<TokenBlocks> blocks = cache.find(key);
    if (!blocks) {
        blocks = encodeCorpus(config, sources, base.folder(), chatTemplate);
        cache.store(key, *blocks);
    }
    requireWithinVocabulary(*blocks, vocabSize, config.inputName());
    warnWhereShort(config, *blocks, haveShares(sources));
    return *std::move(blocks);
}

}  // namespace aimerge
