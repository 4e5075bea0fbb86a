#pragma once
// The sources of one tensor merge, each once, although the base may be an input too; and the method's view of them.

#include "aimerge/merge/merge_tensor.h"
#include "merge/sources/source_window.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace aimerge {

class TensorSources {
public:
    explicit TensorSources(const TensorMerge& tensor)
        : takesBase_(readsBase(tensor.method->info().base) && tensor.base != nullptr) {
        for (const auto& input : tensor.inputs) slots_.push_back(slotOf(input.get()));
        if (tensor.method->info().needs == ExpertStatistic::Fisher)
            for (const auto& fisher : tensor.statistics) slots_.push_back(slotOf(fisher.get()));
        if (tensor.base) baseSlot_ = slotOf(tensor.base.get());
        if (tensor.elementImportance) importanceSlot_ = slotOf(tensor.elementImportance->values.get());
    }

    std::span<const TensorSource* const> all() const { return sources_; }
    std::size_t inputs() const { return slots_.size(); }
    bool takesBase() const { return takesBase_; }  // the method sees the base apart from the inputs

    /// The elements' importances before they are normalised. @pre TensorMerge::elementImportance
    const float* importanceOf(std::span<const float* const> values) const { return values[importanceSlot_.value()]; }

    /// The sources of some inputs, and of the base where the method takes one; the others null.
    std::vector<const TensorSource*> some(std::span<const std::size_t> wanted) const {
        std::vector<const TensorSource*> chosen(sources_.size());
        for (const std::size_t input : wanted) chosen[slots_[input]] = sources_[slots_[input]];
        if (takesBase_) chosen[*baseSlot_] = sources_[*baseSlot_];
        return chosen;
    }

    /// Base and inputs among values of all sources: pointers, or others whose default is null. `base`
    /// is null when there is none.
    template <typename Value>
    Value baseOf(std::span<const Value> values) const {
        return baseSlot_ ? values[*baseSlot_] : Value{};
    }
    template <typename Value>
    Value methodBaseOf(std::span<const Value> values) const {
        return takesBase_ ? baseOf(values) : Value{};
    }
    template <typename Value>
    void inputsOf(std::span<const Value> values, std::vector<Value>& inputs) const {
        inputs.clear();
        for (const std::size_t slot : slots_) inputs.push_back(values[slot]);
    }

private:
    std::size_t slotOf(const TensorSource* source) {
        const auto found = std::find(sources_.begin(), sources_.end(), source);
        if (found != sources_.end()) return static_cast<std::size_t>(found - sources_.begin());
        sources_.push_back(source);
        return sources_.size() - 1;
    }

    bool takesBase_;
    std::vector<const TensorSource*> sources_;
    std::vector<std::size_t> slots_;  // of the inputs
    std::optional<std::size_t> baseSlot_, importanceSlot_;
};

}  // namespace aimerge
