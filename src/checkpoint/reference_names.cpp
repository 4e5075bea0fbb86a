// The part of Checkpoint that takes over the names of another model, or those that its own has without a wrapper.

#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/adapter.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "checkpoint/first_names.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace aimerge {

void Checkpoint::dropWrapper() {
    const std::string wrapper(wrapperOf(tensors_.front().name));
    const bool isBeforeAll =
        std::ranges::all_of(tensors_, [&](const TensorInfo& tensor) { return tensor.name.starts_with(wrapper); });
    if (wrapper.empty() || !isBeforeAll) return;
    spdlog::info(
        "{}: its tensors have other names than the model's own: {} stands before all of them, as a wrapped model is saved, "
        "and is left out",
        name_, wrapper);
    for (TensorInfo& tensor : tensors_) tensor.name.erase(0, wrapper.size());
    indexTensors();
    dropWrapper();
}

void Checkpoint::dropInnerWrappers() {
    std::string first, firstWithout;
    std::size_t count = 0;
    for (TensorInfo& tensor : tensors_) {
        std::string name = withoutInnerWrappers(tensor.name);
        if (name == tensor.name) continue;
        if (count++ == 0) first = tensor.name, firstWithout = name;
        tensor.name = std::move(name);
    }
    if (count == 0) return;
    spdlog::info("{}: its tensors have other names than the model's own: {} is taken for {}, and so {} tensors", name_,
                 first, firstWithout, count);
    indexTensors();
}

std::string firstNames(const Checkpoint& model) {
    constexpr std::size_t kShown = 3;
    std::string names;
    for (const TensorInfo& tensor : std::span(model.tensors()).first(std::min(kShown, model.tensors().size())))
        names += tensor.name + ", ";
    return names + "...";
}

void Checkpoint::takeNamesOf(const Checkpoint& reference) {
    const NameMapping mapping(reference.architecture(), reference.tensors());
    std::map<std::string, std::string> renamed;
    std::set<std::string> names;
    for (const TensorInfo& tensor : tensors_) {
        if (isDerivable(tensor.name, tensor.shape)) continue;
        const auto name = mapping.find(tensor.name);
        if (!name || !names.insert(*name).second) return;  // what does not fit is said where tensors are matched
        if (*name != tensor.name) renamed.emplace(tensor.name, *name);
    }
    if (renamed.empty()) return;

    const auto& [first, firstName] = *renamed.begin();
    spdlog::info("{}: its tensors have other names than those of {}: {} is taken for {}, and so for {} tensors", name_,
                 reference.name(), first, firstName, renamed.size());
    for (TensorInfo& tensor : tensors_)
        if (const auto found = renamed.find(tensor.name); found != renamed.end()) tensor.name = found->second;
    if (adapter_) {
        std::map<std::string, ParameterUpdate> updates;
        for (auto& [parameter, update] : adapter_->updates) {
            const auto found = renamed.find(parameter);
            updates.emplace(found == renamed.end() ? parameter : found->second, std::move(update));
        }
        adapter_->updates = std::move(updates);
    }
    indexTensors();
}

}  // namespace aimerge
