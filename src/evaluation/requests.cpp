#include "aimerge/evaluation/requests.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "aimerge/core/utf8.h"
#include "aimerge/corpus/tokenizer.h"

#include <algorithm>
#include <map>
#include <optional>

namespace aimerge {
namespace {

/// Texts to be encoded in one go, by number.
class EncodingQueue {
public:
    std::size_t add(std::string text) {
        texts_.push_back(std::move(text));
        return texts_.size() - 1;
    }
    void run(const Checkpoint& model) {
        if (!texts_.empty()) encoded_ = openTokenizer(model.tokenizerFolder())->encode(texts_);
    }
    const TokenIds& operator[](std::size_t number) const { return encoded_[number]; }

private:
    std::vector<std::string> texts_;
    std::vector<TokenIds> encoded_;
};

/// A continuation and the prompt before it.
struct Pair {
    std::size_t item = 0, continuation = 0;
    TokenIds context, wanted;
};

class Preparation {
public:
    Preparation(std::vector<SuiteItem> items, const Checkpoint& model, const RequestSettings& settings)
        : model_(model), settings_(settings), positions_(model.modelConfig().maxPositions) {
        requests_.items = std::move(items);
        if (positions_ > 0 && settings.blockLength > positions_ + 1)
            throw UsageError("--block-length {}: {} has {} positions", settings.blockLength, model.name(), positions_);
    }

    EvaluationRequests run() {
        for (std::size_t i = 0; i < requests_.items.size(); ++i) queue(i);
        encodings_.run(model_);
        std::size_t pending = 0;
        for (std::size_t i = 0; i < requests_.items.size(); ++i) {
            const SuiteItem& item = requests_.items[i];
            for (std::size_t c = 0; c < item.continuations.size(); ++c, ++pending) {
                if (item.kind == ItemKind::Text)
                    addText(i, queued_[pending]);
                else
                    addPair({i, c, contextOf(item.contextOf(c), queued_[pending]), wantedOf(item, c, queued_[pending])});
            }
        }
        return std::move(requests_);
    }

private:
    /// Where a continuation's encodings are; none for token ids.
    struct Queued {
        std::optional<std::size_t> context, whole;
    };

    void queue(std::size_t i) {
        const SuiteItem& item = requests_.items[i];
        for (std::size_t c = 0; c < item.continuations.size(); ++c) {
            const SuiteText &continuation = item.continuations[c], &prompt = item.contextOf(c);
            Queued place;
            if (continuation.isEncoded != prompt.isEncoded && item.kind != ItemKind::Text)
                throw InputError("{}: prompt and continuation must both be text or both be token ids", item.place);
            if (!continuation.isEncoded) {
                const std::string_view context = stripWhiteSpaceRight(prompt.text);
                place.whole = encodings_.add(prompt.text + continuation.text);
                if (!context.empty()) place.context = encodings_.add(std::string(context));
            }
            queued_.push_back(place);
        }
    }

    std::int32_t prefixToken() const {
        for (const char* key : {"bos_token_id", "eos_token_id"}) {
            const auto found = model_.config().find(key);
            if (found == model_.config().end()) continue;
            if (found->is_number_integer()) return found->get<std::int32_t>();
            if (found->is_array() && !found->empty()) return found->front().get<std::int32_t>();
        }
        throw InputError("{}: config.json has neither bos_token_id nor eos_token_id, and an empty prompt needs one",
                         model_.name());
    }

    TokenIds contextOf(const SuiteText& prompt, const Queued& place) const {
        if (place.context) return encodings_[*place.context];
        if (prompt.isEncoded && !prompt.ids.empty()) return prompt.ids;
        return {prefixToken()};
    }

    TokenIds wantedOf(const SuiteItem& item, std::size_t continuation, const Queued& place) const {
        if (!place.whole) return item.continuations[continuation].ids;
        const TokenIds& whole = encodings_[*place.whole];
        // Without a prompt, the token that stands for one may be there already.
        const std::size_t cut = place.context ? encodings_[*place.context].size()
                                              : static_cast<std::size_t>(!whole.empty() && whole.front() == prefixToken());
        return {whole.begin() + static_cast<std::ptrdiff_t>(std::min(cut, whole.size())), whole.end()};
    }

    void requireInVocabulary(const TokenIds& ids, const SuiteItem& item) const {
        for (const std::int32_t id : ids)
            if (id < 0 || id >= model_.modelConfig().vocabSize)
                throw InputError("{}: token id {} is outside the vocabulary of {} tokens of {}", item.place, id,
                                 model_.modelConfig().vocabSize, model_.name());
    }

    void addPair(const Pair& pair) {
        const SuiteItem& item = requests_.items[pair.item];
        if (pair.wanted.empty()) throw InputError("{}: a continuation has no tokens of its own", item.place);
        if (positions_ > 0 && static_cast<std::int64_t>(pair.wanted.size()) > positions_)
            throw InputError("{}: a continuation has {} tokens, {} has {} positions", item.place, pair.wanted.size(),
                             model_.name(), positions_);
        TokenIds ids = pair.context;
        ids.insert(ids.end(), pair.wanted.begin(), pair.wanted.end());
        requireInVocabulary(ids, item);
        if (positions_ > 0 && static_cast<std::int64_t>(ids.size()) > positions_ + 1)
            ids.erase(ids.begin(), ids.end() - (positions_ + 1));
        ids.pop_back();
        addRun(pair.item, pair.continuation, std::move(ids), pair.wanted);
    }

    void addText(std::size_t i, const Queued& place) {
        const SuiteItem& item = requests_.items[i];
        const TokenIds& ids = place.whole ? encodings_[*place.whole] : item.continuations.front().ids;
        requireInVocabulary(ids, item);
        if (ids.size() < 2) throw InputError("{}: the text has {} tokens; perplexity takes 2", item.place, ids.size());
        const std::size_t block = std::min(static_cast<std::size_t>(settings_.blockLength), ids.size());
        for (std::size_t begin = 0; begin + block <= ids.size(); begin += block) {
            const auto first = ids.begin() + static_cast<std::ptrdiff_t>(begin),
                       end = first + static_cast<std::ptrdiff_t>(block);
            addRun(i, 0, {first, end - 1}, {first + 1, end});
        }
    }

    /// The last tokens of `ids` are to predict `wanted`. A sequence that is there already takes the targets, too.
    void addRun(std::size_t item, std::size_t continuation, TokenIds ids, const TokenIds& wanted) {
        const auto [known, isNew] = numberOf_.emplace(ids, requests_.sequences.size());
        if (isNew) requests_.sequences.push_back({std::move(ids), {}});
        TokenSequence& sequence = requests_.sequences[known->second];
        requests_.runs.push_back({item, continuation, known->second, sequence.targets.size(), wanted.size()});
        const std::size_t first = sequence.ids.size() - wanted.size();
        for (std::size_t k = 0; k < wanted.size(); ++k)
            sequence.targets.push_back({static_cast<std::int32_t>(first + k), wanted[k]});
    }

    const Checkpoint& model_;
    RequestSettings settings_;
    std::int64_t positions_;
    EvaluationRequests requests_;
    EncodingQueue encodings_;
    std::vector<Queued> queued_;  // per continuation, in the order of the items
    std::map<TokenIds, std::size_t> numberOf_;
};

}  // namespace

std::int64_t EvaluationRequests::tokens() const {
    std::int64_t tokens = 0;
    for (const TokenSequence& sequence : sequences) tokens += static_cast<std::int64_t>(sequence.ids.size());
    return tokens;
}

std::vector<std::size_t> firstTargets(const std::vector<TokenSequence>& sequences) {
    std::vector<std::size_t> first{0};
    for (const TokenSequence& sequence : sequences) first.push_back(first.back() + sequence.targets.size());
    return first;
}

EvaluationRequests prepareRequests(std::vector<SuiteItem> items, const Checkpoint& model, const RequestSettings& settings) {
    return Preparation(std::move(items), model, settings).run();
}

}  // namespace aimerge
