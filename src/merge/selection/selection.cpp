#include "merge/selection/selection.h"

#include "merge/selection/key_bracket.h"
#include "merge/selection/sample_bracket.h"

#include <algorithm>
#include <memory>

namespace aimerge {
namespace {

/// What one request's pass over the parameter left behind.
struct Collection {
    struct Span {
        BracketTally tally;
        std::uint32_t nonzero = 0;  // where the request is for a share of them
        int worker = 0;
        std::size_t begin = 0;  // of its keys in the worker's buffer; as many as tally.inside, unless it overflowed
    };
    struct Buffer {
        std::unique_ptr<std::uint32_t[]> keys;
        std::size_t used = 0;
        bool overflowed = false;
    };

    std::vector<Span> spans;
    std::vector<Buffer> buffers;  // per worker
};

/// Sum over the spans.
struct Totals {
    std::int64_t above = 0, high = 0, inside = 0, low = 0, nonzero = 0;
};

class Selection {
public:
    Selection(ParameterReader& parameter, std::span<const SelectionRequest> requests, const SelectionSettings& settings)
        : parameter_(parameter),
          requests_(requests),
          settings_(settings),
          cuts_(requests.size()),
          isOpen_(requests.size(), true) {
        for (const SelectionRequest& request : requests) keeps_.push_back(request.keep);
    }

    std::vector<MagnitudeCut> run() {
        std::vector<KeyBracket> brackets = sampleBrackets(parameter_, requests_, settings_);
        std::vector<Collection> collections(requests_.size());
        collect(brackets, collections);
        parameter_.threads().forEach(requests_.size(),
                                     [&](std::size_t i, int worker) { resolve(i, brackets[i], collections[i], worker); });
        if (std::ranges::find(isOpen_, std::uint8_t{true}) == isOpen_.end()) return cuts_;

        for (Collection& collection : collections) collection = {};
        narrow(brackets);
        collect(brackets, collections);
        parameter_.threads().forEach(requests_.size(),
                                     [&](std::size_t i, int worker) { resolve(i, brackets[i], collections[i], worker); });
        return cuts_;
    }

private:
    /// Twice a thread's share, because threads do not progress alike; and so much that narrow() can
    /// promise that a bracket fits.
    std::size_t bufferKeys() const {
        const auto threads = static_cast<std::size_t>(parameter_.threads().threads());
        return 2 * (std::max<std::size_t>(settings_.collected / threads, ParameterReader::kSpanElements) + kCollectSlack);
    }

    std::vector<std::size_t> openInputs() const {
        std::vector<std::size_t> inputs;
        for (std::size_t i = 0; i < requests_.size(); ++i)
            if (isOpen_[i]) inputs.push_back(requests_[i].input);
        return inputs;
    }

    /// One pass over the parameter for all open requests.
    void collect(const std::vector<KeyBracket>& brackets, std::vector<Collection>& collections) {
        const auto workers = static_cast<std::size_t>(parameter_.threads().threads());
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            if (!isOpen_[i]) continue;
            collections[i].spans.resize(parameter_.spans());
            collections[i].buffers.resize(workers);
        }
        parameter_.visitAll(openInputs(), [&](const ParameterChunk& chunk) {
            for (std::size_t i = 0; i < requests_.size(); ++i)
                if (isOpen_[i]) collectChunk(chunk, requests_[i], brackets[i], collections[i]);
        });
    }

    void collectChunk(const ParameterChunk& chunk, const SelectionRequest& request, KeyBracket bracket,
                      Collection& collection) const {
        const float* const input = chunk.inputs[request.input];
        Collection::Span& span = collection.spans[chunk.span];
        Collection::Buffer& buffer = collection.buffers[static_cast<std::size_t>(chunk.worker)];
        if (!buffer.keys) buffer.keys.reset(new std::uint32_t[bufferKeys()]);  // left uninitialised: most stays untouched
        if (chunk.first % ParameterReader::kSpanElements == 0) {
            span.worker = chunk.worker;
            span.begin = buffer.used;
        }
        buffer.overflowed = buffer.overflowed || buffer.used + chunk.count + kCollectSlack > bufferKeys();
        std::uint32_t* const free = buffer.overflowed ? nullptr : buffer.keys.get() + buffer.used;
        buffer.used += tallyKeys(chunk.base, input, chunk.count, bracket, span.tally, free);
        if (request.ofNonzero) {
            BracketTally ofZero;
            tallyKeys(chunk.base, input, chunk.count, {0, 0}, ofZero, nullptr);
            span.nonzero += ofZero.above;
        }
    }

    static Totals totalsOf(const Collection& collection) {
        Totals totals;
        for (const Collection::Span& span : collection.spans) {
            totals.above += span.tally.above;
            totals.high += span.tally.high;
            totals.inside += span.tally.inside;
            totals.low += span.tally.low;
            totals.nonzero += span.nonzero;
        }
        return totals;
    }

    /// Sets the request's cut, or leaves it open when the bracket missed or overflowed.
    void resolve(std::size_t request, KeyBracket bracket, const Collection& collection, int worker) {
        if (!isOpen_[request]) return;
        const Totals totals = totalsOf(collection);
        if (const auto share = requests_[request].ofNonzero) {
            // Rounded up, the product may be more than there are.
            keeps_[request] =
                std::min(static_cast<std::int64_t>(static_cast<float>(totals.nonzero) * *share), parameter_.elements());
            if (keeps_[request] == 0) {
                cuts_[request] = MagnitudeCut::keepNone();
                isOpen_[request] = false;
                return;
            }
        }
        std::int64_t rank = keeps_[request] - totals.above;  // among what is not above the bracket
        if (rank <= 0 || rank > totals.high + totals.inside + totals.low) return;

        const auto cutAt = [&](std::uint32_t key, std::int64_t equal, const auto& equalInSpan) {
            cuts_[request] = {key, equalEnd(request, key, rank, equal, equalInSpan, collection.spans.size(), worker)};
            isOpen_[request] = false;
        };
        if (rank <= totals.high)
            return cutAt(bracket.high, totals.high, [&](std::size_t span) { return collection.spans[span].tally.high; });
        rank -= totals.high;
        if (rank > totals.inside) {
            rank -= totals.inside;
            return cutAt(bracket.low, totals.low, [&](std::size_t span) { return collection.spans[span].tally.low; });
        }
        if (std::ranges::any_of(collection.buffers, &Collection::Buffer::overflowed)) return;

        std::vector<std::span<const std::uint32_t>> parts;
        for (const Collection::Buffer& buffer : collection.buffers) parts.emplace_back(buffer.keys.get(), buffer.used);
        const std::uint32_t key = KeyRanking(parts, bracket).kthLargest(static_cast<std::size_t>(rank));
        std::int64_t larger = 0, equal = 0;
        for (const auto part : parts) {
            for (const std::uint32_t candidate : part) {
                larger += candidate > key;
                equal += candidate == key;
            }
        }
        rank -= larger;
        cutAt(key, equal, [&](std::size_t span) {
            const Collection::Span& entry = collection.spans[span];
            const std::uint32_t* keys = collection.buffers[static_cast<std::size_t>(entry.worker)].keys.get() + entry.begin;
            return std::count(keys, keys + entry.tally.inside, key);
        });
    }

    /// The index behind the rank-th element that equals `key`. @param equal how many there are
    template <typename EqualInSpan>
    std::int64_t equalEnd(std::size_t request, std::uint32_t key, std::int64_t rank, std::int64_t equal,
                          const EqualInSpan& equalInSpan, std::size_t spans, int worker) {
        if (rank == equal) return parameter_.elements();
        for (std::size_t span = 0; span < spans; ++span) {
            const auto here = static_cast<std::int64_t>(equalInSpan(span));
            if (rank <= here) return indexBehind(request, key, rank, span, worker);
            rank -= here;
        }
        return parameter_.elements();
    }

    /// Reads one span again to find the place.
    std::int64_t indexBehind(std::size_t request, std::uint32_t key, std::int64_t rank, std::size_t span, int worker) {
        const std::size_t input = requests_[request].input;
        const std::int64_t first = static_cast<std::int64_t>(span) * ParameterReader::kSpanElements;
        const std::int64_t count = std::min(ParameterReader::kSpanElements, parameter_.elements() - first);
        std::int64_t end = first + count;
        std::vector<std::uint32_t> keys;
        parameter_.visit(first, count, {&input, 1}, worker, [&](const ParameterChunk& chunk) {
            keys.resize(chunk.count);
            keysOf(chunk.base, chunk.inputs[input], chunk.count, keys.data());
            for (std::size_t i = 0; i < keys.size() && rank > 0; ++i)
                if (keys[i] == key && --rank == 0) end = chunk.first + static_cast<std::int64_t>(i) + 1;
        });
        return end;
    }

    /// Replaces the brackets of open requests by ones that surely hold the wanted key and little enough else: histogram
    /// after histogram, each a pass over the parameter.
    void narrow(std::vector<KeyBracket>& brackets) {
        const std::size_t most = bufferKeys() / 2;  // fits even if one thread gets all of it
        std::vector<std::uint8_t> wide(requests_.size());
        std::vector<std::int64_t> ranks(requests_.size());
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            wide[i] = isOpen_[i];
            ranks[i] = keeps_[i];
            if (wide[i]) brackets[i] = {};
        }
        while (std::ranges::find(wide, std::uint8_t{true}) != wide.end()) {
            const auto counts = countBins(brackets, wide);
            for (std::size_t i = 0; i < requests_.size(); ++i) {
                if (!wide[i]) continue;
                const RankedBin ranked = binOfRank(counts[i], static_cast<std::uint64_t>(ranks[i]));
                brackets[i] = KeyBins(brackets[i]).bracketOf(ranked.bin);
                ranks[i] -= static_cast<std::int64_t>(ranked.above);
                wide[i] = brackets[i].low != brackets[i].high && counts[i][ranked.bin] > most;
            }
        }
    }

    std::vector<std::vector<std::uint64_t>> countBins(const std::vector<KeyBracket>& brackets,
                                                      const std::vector<std::uint8_t>& wide) {
        const auto workers = static_cast<std::size_t>(parameter_.threads().threads());
        std::vector<std::vector<std::uint64_t>> counts(requests_.size() * workers);
        std::vector<std::size_t> inputs;
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            if (!wide[i]) continue;
            inputs.push_back(requests_[i].input);
            for (std::size_t worker = 0; worker < workers; ++worker) counts[i * workers + worker].resize(KeyBins::kCount);
        }
        parameter_.visitAll(inputs, [&](const ParameterChunk& chunk) {
            std::vector<std::uint32_t> keys(chunk.count);
            for (std::size_t i = 0; i < requests_.size(); ++i) {
                if (!wide[i]) continue;
                keysOf(chunk.base, chunk.inputs[requests_[i].input], chunk.count, keys.data());
                const KeyBins bins(brackets[i]);
                std::vector<std::uint64_t>& own = counts[i * workers + static_cast<std::size_t>(chunk.worker)];
                for (const std::uint32_t key : keys)
                    if (key - bins.range.low <= bins.range.high - bins.range.low) ++own[bins.binOf(key)];
            }
        });
        std::vector<std::vector<std::uint64_t>> sums(requests_.size());
        for (std::size_t i = 0; i < requests_.size(); ++i) {
            if (!wide[i]) continue;
            sums[i].resize(KeyBins::kCount);
            for (std::size_t worker = 0; worker < workers; ++worker)
                for (std::size_t bin = 0; bin < KeyBins::kCount; ++bin) sums[i][bin] += counts[i * workers + worker][bin];
        }
        return sums;
    }

    ParameterReader& parameter_;
    std::span<const SelectionRequest> requests_;
    const SelectionSettings& settings_;
    std::vector<std::int64_t> keeps_;
    std::vector<MagnitudeCut> cuts_;
    std::vector<std::uint8_t> isOpen_;  // bytes, so that threads may set neighbours
};

}  // namespace

std::vector<MagnitudeCut> selectLargest(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                        const SelectionSettings& settings) {
    return Selection(parameter, requests, settings).run();
}

std::uint64_t selectionBytesPerThread(const SelectionSettings& settings) {
    return (2 * settings.collected + static_cast<std::uint64_t>(settings.mostSampled)) * sizeof(std::uint32_t);
}

}  // namespace aimerge
