#include "aimerge/model/gradient.h"

#include "model/module_gradients.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace aimerge {

StageGradient::StageGradient(const Decoder& decoder, std::int64_t firstLayer, std::int64_t endLayer, std::int64_t length,
                             Kept kept, const ObservedGradients& observed, GradientObserver& observer)
    : decoder_(decoder),
      firstLayer_(firstLayer),
      endLayer_(endLayer),
      length_(static_cast<std::size_t>(length)),
      kept_(kept),
      observed_(observed),
      observer_(observer),
      layers_(static_cast<std::size_t>(endLayer - firstLayer)) {}

void StageGradient::embed(GradientPass& pass) const {
    for (std::size_t s = 0; s < pass.ids.size() / length_; ++s) {
        pass.states.push_back(decoder_.emptyHidden(1, static_cast<std::int64_t>(length_)));
        decoder_.embed(idsOf(pass, s), pass.states.back());
    }
}

void StageGradient::forward(GradientPass& pass) {
    pass.kept.resize(layers_.size());
    for (std::int64_t number = firstLayer_; number < endLayer_; ++number) {
        const LoadedLayer weights = layer(number);
        for (at::Tensor& state : pass.states) {
            KeptLayer kept = decoder_.runKeeping(number, weights, state);
            if (kept_ != Kept::WeightsAndActivations) kept.blocks.clear();
            pass.kept[static_cast<std::size_t>(number - firstLayer_)].push_back(std::move(kept));
        }
        observer_.stop();
    }
}

void StageGradient::backwardThroughHead(GradientPass& pass, const LossGradient& lossGradient) {
    if (!head_.weight.defined()) {
        finalNorm_ = decoder_.loadFinalNorm();
        head_ = decoder_.loadHead();
    }
    for (std::size_t s = 0; s < pass.states.size(); ++s) {
        at::Tensor& state = pass.states[s];
        const at::Tensor normalised = decoder_.runFinalNorm(finalNorm_, state, nullptr);
        const at::Tensor logits = decoder_.runHead(head_, normalised).squeeze(0);
        const at::Tensor gradient = decoder_.headGradient(logits, lossGradient(logits, idsOf(pass, s)));
        if (observed_.ofEnds) observeHead(pass, s, {normalised, gradient});
        if (observed_.ofEnds && head_.bias.defined())
            observer_.observe(decoder_.description().head + ".bias", head_.bias.sizes(), 0, gradient.to(at::kFloat).sum(0));
        state = decoder_.finalNormGradient(finalNorm_, state, inputGradient(head_.weight, gradient).unsqueeze(0),
                                           observed_.ofEnds ? &observer_ : nullptr);
    }
    if (kept_ == Kept::Nothing) finalNorm_ = head_ = {};
    observer_.stop();
}

void StageGradient::observeHead(GradientPass& pass, std::size_t sequence, const WeightGradient& parts) {
    const bool isTied = decoder_.config().tieWordEmbeddings;
    const std::vector<std::int64_t> tokens = isTied ? tokensOf(pass, sequence) : std::vector<std::int64_t>{};
    std::vector<at::Tensor> tiedRows;
    auto begin = tokens.begin();
    for (std::int64_t first = 0; first < parts.rows(); first += parts.rowsAtOnce()) {
        const std::int64_t count = std::min(parts.rowsAtOnce(), parts.rows() - first);
        at::Tensor gradient = parts.ofRows(first, count);
        const auto end = std::lower_bound(begin, tokens.end(), first + count);
        if (begin != end) {
            const at::Tensor rows = at::tensor(at::ArrayRef(&*begin, static_cast<std::size_t>(end - begin))).sub_(first);
            const at::Tensor places = rows.to(gradient.device());
            tiedRows.push_back(gradient.index_select(0, places).to(at::kFloat));
            gradient.index_fill_(0, places, 0);
        }
        begin = end;
        observer_.observe(decoder_.headParameter(), head_.weight.sizes(), first, gradient);
    }
    if (isTied) pass.tiedRows.push_back(at::cat(tiedRows));
}

void StageGradient::backward(GradientPass& pass) {
    for (std::int64_t number = endLayer_; number-- > firstLayer_;) {
        const LoadedLayer weights = layer(number);
        const bool isObserved = number >= observed_.firstLayer && number < observed_.endLayer;
        for (std::size_t s = 0; s < pass.states.size(); ++s) {
            KeptLayer kept = std::exchange(pass.kept[static_cast<std::size_t>(number - firstLayer_)][s], {});
            at::Tensor hidden = kept.input;
            if (kept.blocks.empty()) kept = decoder_.runKeeping(number, weights, hidden);
            pass.states[s] = decoder_.backward(number, weights, kept, pass.states[s], isObserved ? &observer_ : nullptr);
        }
        observer_.stop();
    }
}

void StageGradient::backwardThroughEmbedding(GradientPass& pass) {
    for (std::size_t s = 0; s < pass.states.size(); ++s) {
        const std::vector<std::int64_t> tokens = tokensOf(pass, s);
        // On the host, where index_add_ goes token by token, in order: the bits must not depend on threads.
        at::Tensor gradient = decoder_.config().tieWordEmbeddings
                                  ? pass.tiedRows[s].cpu()
                                  : at::zeros({static_cast<std::int64_t>(tokens.size()), decoder_.hiddenSize()}, at::kFloat);
        std::vector<std::int64_t> places;
        for (const std::int32_t id : idsOf(pass, s)) places.push_back(std::ranges::lower_bound(tokens, id) - tokens.begin());
        gradient.index_add_(0, at::tensor(places), pass.states[s].select(0, 0).cpu().to(at::kFloat),
                            decoder_.embeddingScale());
        if (const auto& positions = decoder_.description().positions) {
            const auto length = static_cast<std::int64_t>(length_);
            observer_.observeRows(positions->name, positions->rows,
                                  at::arange(positions->offset, positions->offset + length).to(decoder_.device()),
                                  pass.states[s].select(0, 0).to(at::kFloat));
        }
        observer_.observeRows(decoder_.description().embedding, decoder_.config().vocabSize,
                              at::tensor(tokens).to(decoder_.device()), gradient.to(decoder_.device()));
    }
}

std::vector<std::int64_t> StageGradient::tokensOf(const GradientPass& pass, std::size_t sequence) const {
    const std::span<const std::int32_t> ids = idsOf(pass, sequence);
    std::vector<std::int64_t> tokens(ids.begin(), ids.end());
    std::ranges::sort(tokens);
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    return tokens;
}

std::span<const std::int32_t> StageGradient::idsOf(const GradientPass& pass, std::size_t sequence) const {
    return pass.ids.subspan(sequence * length_, length_);
}

LoadedLayer StageGradient::layer(std::int64_t number) {
    LoadedLayer& kept = layers_[static_cast<std::size_t>(number - firstLayer_)];
    if (!kept.empty()) return kept;
    LoadedLayer weights = decoder_.loadLayer(number);
    if (kept_ != Kept::Nothing) kept = weights;
    return weights;
}

}  // namespace aimerge
