#include "evaluation/batches.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

namespace aimerge {
namespace {

/// Numbers one behind the other.
class NumberText {
public:
    void add(std::int64_t number) { text_.append(reinterpret_cast<const char*>(&number), sizeof number); }
    template <typename Numbers>
    void addAll(const Numbers& numbers) {
        add(static_cast<std::int64_t>(numbers.size()));
        for (const auto number : numbers) add(static_cast<std::int64_t>(number));
    }
    std::string take() { return std::move(text_); }

private:
    std::string text_;
};

class NumberReader {
public:
    explicit NumberReader(const std::string& text) : text_(text) {}

    bool atEnd() const { return at_ >= text_.size(); }
    std::int64_t next() {
        std::int64_t number = 0;
        std::memcpy(&number, text_.data() + at_, sizeof number);
        at_ += sizeof number;
        return number;
    }
    template <typename Number>
    void all(std::vector<Number>& numbers) {
        numbers.resize(static_cast<std::size_t>(next()));
        for (Number& number : numbers) number = static_cast<Number>(next());
    }

private:
    const std::string& text_;
    std::size_t at_ = 0;
};

TokenBatch fill(const std::vector<TokenSequence>& sequences, std::vector<std::size_t> chosen) {
    TokenBatch batch;
    for (const std::size_t s : chosen)
        batch.length = std::max(batch.length, static_cast<std::int64_t>(sequences[s].ids.size()));
    batch.ids.resize(chosen.size() * static_cast<std::size_t>(batch.length), 0);
    for (std::size_t row = 0; row < chosen.size(); ++row) {
        const TokenSequence& sequence = sequences[chosen[row]];
        const std::int64_t first = static_cast<std::int64_t>(row) * batch.length;
        std::ranges::copy(sequence.ids, batch.ids.begin() + first);
        for (const TokenTarget& target : sequence.targets) {
            batch.rows.push_back(first + target.position);
            batch.tokens.push_back(target.token);
        }
    }
    batch.sequences = std::move(chosen);
    return batch;
}

}  // namespace

std::vector<TokenBatch> batchesOf(const std::vector<TokenSequence>& sequences, std::int64_t tokensPerBatch) {
    std::vector<std::size_t> order(sequences.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t s) { return sequences[s].ids.size(); });
    std::vector<TokenBatch> batches;
    std::vector<std::size_t> chosen;
    for (const std::size_t s : order) {
        const auto tokens = static_cast<std::int64_t>((chosen.size() + 1) * sequences[s].ids.size());
        if (!chosen.empty() && tokens > tokensPerBatch) batches.push_back(fill(sequences, std::exchange(chosen, {})));
        chosen.push_back(s);
    }
    if (!chosen.empty()) batches.push_back(fill(sequences, std::move(chosen)));
    return batches;
}

std::vector<TokenBatch> shareBatches(World& world, std::vector<TokenBatch> batches) {
    if (world.size() == 1) return batches;
    NumberText written;
    for (const TokenBatch& batch : batches) {
        written.add(batch.length);
        written.addAll(batch.sequences);
        written.addAll(batch.ids);
        written.addAll(batch.rows);
        written.addAll(batch.tokens);
    }
    const std::string text = world.broadcast(written.take());
    if (world.isRoot()) return batches;
    std::vector<TokenBatch> shared;
    for (NumberReader reader(text); !reader.atEnd();) {
        TokenBatch& batch = shared.emplace_back();
        batch.length = reader.next();
        reader.all(batch.sequences);
        reader.all(batch.ids);
        reader.all(batch.rows);
        reader.all(batch.tokens);
    }
    return shared;
}

std::vector<TokenScore> inSequenceOrder(const std::vector<TokenSequence>& sequences, const std::vector<TokenBatch>& batches,
                                        const std::vector<TokenScore>& scores) {
    const std::vector<std::size_t> firstOf = firstTargets(sequences);
    std::vector<TokenScore> ordered(firstOf.back());
    std::size_t at = 0;
    for (const TokenBatch& batch : batches)
        for (const std::size_t s : batch.sequences)
            for (std::size_t k = 0; k < sequences[s].targets.size(); ++k) ordered[firstOf[s] + k] = scores[at++];
    return ordered;
}

}  // namespace aimerge
