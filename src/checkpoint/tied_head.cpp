// The part of Checkpoint that decides about a head that is stored although config.json ties it to the embeddings.

#include "aimerge/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>

namespace aimerge {
namespace {

constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;

bool haveSameBytes(const Checkpoint& model, const TensorInfo& a, const TensorInfo& b) {
    if (a.dtype != b.dtype || a.shape != b.shape) return false;
    std::vector<std::byte> ofA(std::min(kReadBytes, a.bytes.size())), ofB(ofA.size());
    for (std::uint64_t done = 0; done < a.bytes.size(); done += ofA.size()) {
        const std::size_t count = std::min<std::uint64_t>(ofA.size(), a.bytes.size() - done);
        model.read(a, done, std::span(ofA).first(count));
        model.read(b, done, std::span(ofB).first(count));
        if (std::memcmp(ofA.data(), ofB.data(), count) != 0) return false;
    }
    return true;
}

/// Whether neither config.json nor its model type says if the head is tied.
bool isSilent(const Checkpoint& model) {
    return !saysTied(model.config()) && !isFullyRead(model.modelConfig().modelType);
}

}  // namespace

void Checkpoint::settleTiedHead() {
    const TensorInfo *const head = find(architecture_.head()), *const embedding = find(architecture_.embedding());
    if (head == nullptr || embedding == nullptr || head == embedding) return;
    // torch.save writes a tied head as a second name for the same bytes.
    const bool isStoredOnce = head->fileIndex == embedding->fileIndex && head->bytes == embedding->bytes;
    if (!isTied(config_) && !(isStoredOnce && isSilent(*this))) return;
    if (isStoredOnce || haveSameBytes(*this, *head, *embedding)) {
        tiedHead_ = TiedHead::Equal;
        config_["tie_word_embeddings"] = true;  // what only the section about the text says, some loaders do not see
        tensors_.erase(tensors_.begin() + (head - tensors_.data()));
        indexTensors();
        return;
    }
    tiedHead_ = TiedHead::Different;
    modelConfig_.tieWordEmbeddings = false;
    setUntied(config_);
}

}  // namespace aimerge
