#pragma once
// A tensor that holds several matrices, each prepared by itself.

#include "aimerge/architecture/architecture.h"
#include "aimerge/merge/method.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

namespace aimerge {

class PreparedParts : public PreparedParameter {
public:
    /// @param parts one behind the other, and what was prepared for each
    PreparedParts(std::span<const MatrixPart> parts, std::vector<std::unique_ptr<PreparedParameter>> prepared)
        : parts_(parts.begin(), parts.end()), prepared_(std::move(prepared)) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        std::vector<const float*> ofPart(inputs.begin(), inputs.end());
        for (std::size_t done = 0; done < out.size();) {
            const std::int64_t at = first + static_cast<std::int64_t>(done);
            const auto next = std::ranges::upper_bound(parts_, at, {}, &MatrixPart::first);
            const auto part = static_cast<std::size_t>(next - parts_.begin()) - 1;
            const std::int64_t left = parts_[part].first + elementCount(parts_[part].shape) - at;
            const std::size_t count = std::min(out.size() - done, static_cast<std::size_t>(left));
            for (std::size_t i = 0; i < inputs.size(); ++i) ofPart[i] = inputs[i] + done;
            prepared_[part]->combine(at - parts_[part].first, base ? base + done : nullptr, ofPart,
                                     out.subspan(done, count));
            done += count;
        }
    }

    std::uint64_t heldBytes() const override {
        std::uint64_t bytes = 0;
        for (const auto& part : prepared_) bytes += part->heldBytes();
        return bytes;
    }

private:
    std::vector<MatrixPart> parts_;
    std::vector<std::unique_ptr<PreparedParameter>> prepared_;
};

}  // namespace aimerge
