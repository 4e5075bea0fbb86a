#include "corpus/packing.h"

#include "aimerge/core/error.h"
#include "aimerge/core/utf8.h"

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

// A document up to this size is encoded whole. Of a larger one only the beginning is, when it has tokens to spare: the last
// tokens of a beginning may differ from those of the whole.
constexpr std::uint64_t kWholeDocumentBytes = std::uint64_t{4} << 20;
constexpr std::size_t kSpareTokens = 256;
constexpr std::uint64_t kGuessedBytesPerToken = 5;
constexpr std::uint64_t kLargestBatchBytes = std::uint64_t{16} << 20;

/// Hands out the documents in their order, in batches that are encoded together.
class Batches {
public:
    explicit Batches(const PackingRequest& request) : request_(request) {}

    bool done() const { return next_ == request_.order.size(); }
    std::size_t peek() const { return request_.order[next_]; }
    void skipOne() { ++next_; }

    /// At least one document; further ones as long as the batch stays within both limits.
    std::vector<std::size_t> take(std::uint64_t bytes, std::size_t documents) {
        std::vector<std::size_t> batch;
        std::uint64_t batchBytes = 0;
        while (!done() && batch.size() < documents) {
            batchBytes += request_.corpus.bytesOf(peek());
            if (!batch.empty() && batchBytes > bytes) break;
            batch.push_back(peek());
            skipOne();
        }
        return batch;
    }

private:
    const PackingRequest& request_;
    std::size_t next_ = 0;
};

/// One list per document; conversations have their special tokens.
std::vector<TokenIds> encode(std::vector<Document> documents, Tokenizer& tokenizer) {
    std::vector<std::string> texts, chats;
    for (Document& document : documents) (document.isChat ? chats : texts).push_back(std::move(document.text));
    std::vector<TokenIds> ofTexts, ofChats;
    if (!texts.empty()) ofTexts = tokenizer.encode(texts);
    if (!chats.empty()) ofChats = tokenizer.encode(chats, SpecialTokens::None);
    std::vector<TokenIds> encoded;
    auto text = ofTexts.begin(), chat = ofChats.begin();
    for (const Document& document : documents) encoded.push_back(std::move(document.isChat ? *chat++ : *text++));
    return encoded;
}

/// The first tokens of a document that is too large to be encoded whole: at least `wanted`, or all there are.
TokenIds encodeBeginning(const Corpus& corpus, std::size_t document, std::size_t wanted, Tokenizer& tokenizer) {
    for (std::uint64_t limit = std::max(kWholeDocumentBytes, wanted * 2 * kGuessedBytesPerToken);; limit *= 2) {
        Corpus::Beginning beginning = corpus.readBeginning(document, limit);
        const bool isWhole = beginning.isWhole;
        std::vector<Document> one;
        one.push_back(std::move(beginning.document));
        TokenIds ids = encode(std::move(one), tokenizer).front();
        if (isWhole) return ids;
        if (ids.size() >= wanted + kSpareTokens) {
            ids.resize(wanted);
            return ids;
        }
    }
}

void requireDocuments(const PackingRequest& request) {
    if (request.order.empty()) throw InputError("{}: the corpus is empty", request.corpusName);
}

TokenBlocks cutIntoBlocks(TokenIds ids, std::int64_t blocks, std::int64_t length) {
    ids.resize(static_cast<std::size_t>(blocks * length));
    return {.blocks = blocks, .length = length, .ids = std::move(ids), .unusedTokens = 0};
}

std::string joined(std::int64_t count, const char* noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace

TokenBlocks packStream(const PackingRequest& request, Tokenizer& tokenizer) {
    requireDocuments(request);
    const auto needed = static_cast<std::size_t>(request.sequences * request.sequenceLength);
    TokenIds ids;
    Batches batches(request);
    while (ids.size() < needed && !batches.done()) {
        const std::size_t missing = needed - ids.size();
        if (request.corpus.bytesOf(batches.peek()) > kWholeDocumentBytes) {
            const TokenIds beginning = encodeBeginning(request.corpus, batches.peek(), missing, tokenizer);
            ids.insert(ids.end(), beginning.begin(), beginning.end());
            batches.skipOne();
            continue;
        }
        const std::uint64_t bytes = std::clamp(missing * kGuessedBytesPerToken, std::uint64_t{1} << 20, kLargestBatchBytes);
        for (const TokenIds& document : encode(request.corpus.read(batches.take(bytes, request.order.size())), tokenizer))
            ids.insert(ids.end(), document.begin(), document.end());
    }
    const auto found = static_cast<std::int64_t>(ids.size());
    if (found == 0) throw InputError("{}: the corpus has no tokens", request.corpusName);
    if (found < request.sequenceLength) return cutIntoBlocks(std::move(ids), 1, found);
    const std::int64_t blocks = std::min(found / request.sequenceLength, request.sequences);
    const std::int64_t remainder = ids.size() < needed ? found - blocks * request.sequenceLength : 0;
    TokenBlocks cut = cutIntoBlocks(std::move(ids), blocks, request.sequenceLength);
    cut.unusedTokens = remainder;
    return cut;
}

TokenBlocks packLines(const PackingRequest& request, Tokenizer& tokenizer) {
    requireDocuments(request);
    TokenIds ids;
    std::int64_t kept = 0, tooLong = 0;
    Batches batches(request);
    while (kept < request.sequences && !batches.done()) {
        const auto wanted = static_cast<std::size_t>(request.sequences - kept);
        std::vector<Document> lines = request.corpus.read(batches.take(kLargestBatchBytes, wanted));
        for (Document& line : lines)
            if (!line.isChat) line.text = std::string(stripWhiteSpace(line.text));
        for (const TokenIds& line : encode(std::move(lines), tokenizer)) {
            const bool isTooLong = static_cast<std::int64_t>(line.size()) > request.sequenceLength;
            tooLong += isTooLong ? 1 : 0;
            if (isTooLong || line.empty()) continue;
            ids.insert(ids.end(), line.begin(), line.end());
            ++kept;
        }
    }
    const auto found = static_cast<std::int64_t>(ids.size());
    const std::int64_t blocks = found / request.sequenceLength;
    if (blocks < 1)
        throw InputError(
            "{}: the corpus is too short: {} of at most {} tokens have {} together, one block needs {} ({} more were too "
            "long and skipped); lower aim.calibration.sequence_length, raise aim.calibration.sequences, or use more "
            "text",
            request.corpusName, joined(kept, "line"), request.sequenceLength, joined(found, "token"), request.sequenceLength,
            tooLong);
    return cutIntoBlocks(std::move(ids), blocks, request.sequenceLength);
}

}  // namespace aimerge
