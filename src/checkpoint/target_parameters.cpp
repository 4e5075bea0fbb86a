#include "target_parameters.h"

#include "aimerge/core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string_view>

namespace aimerge {
namespace {

constexpr std::string_view kGateAndUp = "gate_up_proj", kDown = "down_proj";

/// How checkpoints with a tensor for each expert call what is one parameter in memory.
struct SeparateForm {
    std::string_view parameter;
    std::vector<std::string_view> matrices;  // their outputs one behind the other
    std::string_view moduleInMemory, module;
};

const std::vector<SeparateForm>& separateForms() {
    static const std::vector<SeparateForm> forms{{kGateAndUp, {"gate_proj", "up_proj"}, "", ""},
                                                 {kDown, {"down_proj"}, "", ""},
                                                 {kGateAndUp, {"w1", "w3"}, ".mlp.experts", ".block_sparse_moe.experts"},
                                                 {kDown, {"w2"}, ".mlp.experts", ".block_sparse_moe.experts"}};
    return forms;
}

class Assignment {
public:
    Assignment(Adapter& adapter, const Architecture& architecture, std::span<const TensorInfo> tensors)
        : adapter_(adapter), architecture_(architecture), mapping_(architecture, tensors) {
        for (const TensorInfo& tensor : tensors) tensors_.emplace(tensor.name, &tensor);
    }

    void assign(const std::string& module, TargetedFactors& targeted) {
        std::vector<TargetParameter> present;
        for (const TargetParameter& candidate : targeted.candidates)
            if (tensorOf(module + "." + candidate.name) || formOf(module, candidate.name)) present.push_back(candidate);
        sortAsDeclared(module, present);
        if (present.size() != targeted.nested.size())
            throw InputError(
                "{}: has factors for {} parameters of {} (tensor {}, ...), of which target_parameters of "
                "adapter_config.json "
                "names {}, and the base has {} of these; name the base that it was trained on",
                file(), targeted.nested.size(), module, targeted.nested.front().a.name, namesOf(targeted.candidates),
                present.size());
        // The layer around all others is that of the last parameter.
        for (std::size_t i = 0; i < present.size(); ++i)
            assign(module, present[i], std::move(targeted.nested[present.size() - 1 - i]), targeted.inAxisOrder);
    }

private:
    std::string file() const { return adapter_.weights.front().string(); }

    static std::string namesOf(const std::vector<TargetParameter>& parameters) {
        std::vector<std::string> names;
        for (const TargetParameter& parameter : parameters) names.push_back(parameter.name);
        return fmt::format("{}", fmt::join(names, ", "));
    }

    /// The base's tensor of a name in memory; null when it has none.
    const TensorInfo* tensorOf(const std::string& name) const {
        const auto tensor = tensors_.find(mapping_.find(name).value_or(name));
        return tensor == tensors_.end() ? nullptr : tensor->second;
    }

    static std::string nameOf(const SeparateForm& form, const std::string& module, std::int64_t expert,
                              std::string_view matrix) {
        const std::string stem = module.substr(0, module.size() - form.moduleInMemory.size());
        return fmt::format("{}{}.{}.{}.weight", stem, form.module, expert, matrix);
    }

    const SeparateForm* formOf(const std::string& module, const std::string& parameter) const {
        for (const SeparateForm& form : separateForms())
            if (form.parameter == parameter && module.ends_with(form.moduleInMemory) &&
                tensorOf(nameOf(form, module, 0, form.matrices.front())))
                return &form;
        return nullptr;
    }

    /// In the order in which the module has them. It is known of experts, whose gate_up_proj comes first everywhere.
    void sortAsDeclared(const std::string& module, std::vector<TargetParameter>& present) const {
        if (present.size() < 2) return;
        std::ranges::sort(present, std::ranges::greater(), &TargetParameter::name);
        if (present.size() > 2 || present[0].name != kGateAndUp || present[1].name != kDown)
            throw InputError(
                "{}: has factors for {} of {}, and the file does not say which are for which; only {} and {} are known to "
                "come "
                "in this order. Merge this adapter into its base with PEFT (merge_and_unload)",
                file(), namesOf(present), module, kGateAndUp, kDown);
    }

    void assign(const std::string& module, const TargetParameter& parameter, LowRankUpdate update, bool inAxisOrder) {
        const std::int64_t rows = update.a.shape[0];
        if (rows % parameter.rank != 0 || update.b.shape[1] != rows)
            throw InputError(
                "{}: tensors {} {} and {} {} are for {} of {}, but {} gives it rank {} (r or rank_pattern) for each expert",
                file(), update.a.name, shapeText(update.a.shape), update.b.name, shapeText(update.b.shape), parameter.name,
                module, adapter_.configFile, parameter.rank);
        update.experts = rows / parameter.rank;
        update.scaling = parameter.scaling;
        const std::string name = module + "." + parameter.name;
        if (const TensorInfo* tensor = tensorOf(name)) {
            update.transposed = isTransposed(*tensor, update, inAxisOrder);
            adapter_.updates.insert_or_assign(tensor->name, std::move(update));
        } else {
            assignToExperts(module, *formOf(module, parameter.name), update, inAxisOrder);
        }
    }

    /// Whether A has the second axis of the experts. The shape tells it unless the matrices are square.
    bool isTransposed(const TensorInfo& tensor, const LowRankUpdate& update, bool inAxisOrder) const {
        if (tensor.shape.size() != 3) return false;
        const auto fits = [&](std::size_t ofA, std::size_t ofB) {
            return update.inputs == tensor.shape[ofA] && update.outputs == tensor.shape[ofB];
        };
        if (!fits(1, 2)) return false;
        return !fits(2, 1) || inAxisOrder || architecture_.describe(tensor).inputAxis == -2;
    }

    /// As isTransposed(), of experts that are one parameter [experts, outputs of all matrices, inputs] in memory only.
    static bool isTransposed(const Shape& matrix, std::int64_t matrices, const LowRankUpdate& update, bool inAxisOrder) {
        if (matrix.size() != 2) return false;
        const auto fits = [&](std::int64_t outputs, std::int64_t inputs) {
            return outputs == matrix[0] * matrices && inputs == matrix[1];
        };
        return fits(update.inputs, update.outputs) && (inAxisOrder || !fits(update.outputs, update.inputs));
    }

    void assignToExperts(const std::string& module, const SeparateForm& form, const LowRankUpdate& update,
                         bool inAxisOrder) {
        const auto count = static_cast<std::int64_t>(form.matrices.size());
        const Shape& matrix = tensorOf(nameOf(form, module, 0, form.matrices.front()))->shape;
        const bool transposed = isTransposed(matrix, count, update, inAxisOrder);
        const std::int64_t outputs = transposed ? update.inputs : update.outputs;
        if (tensorOf(nameOf(form, module, update.experts, form.matrices.front())) || outputs % count != 0)
            throw InputError("{}: tensors {} {} and {} {} have the factors of {} experts, but the base has more of them",
                             file(), update.a.name, shapeText(update.a.shape), update.b.name, shapeText(update.b.shape),
                             update.experts);
        for (std::int64_t expert = 0; expert < update.experts; ++expert) {
            for (std::int64_t i = 0; i < count; ++i) {
                LowRankUpdate part = update;
                part.expert = expert;
                part.transposed = transposed;
                (transposed ? part.inputs : part.outputs) = outputs / count;
                (transposed ? part.firstInput : part.firstOutput) = i * (outputs / count);
                const std::string name = nameOf(form, module, expert, form.matrices[static_cast<std::size_t>(i)]);
                adapter_.updates.insert_or_assign(mapping_.find(name).value_or(name), std::move(part));
            }
        }
    }

    Adapter& adapter_;
    const Architecture& architecture_;
    NameMapping mapping_;
    std::map<std::string_view, const TensorInfo*> tensors_;
};

}  // namespace

void assignTargetParameters(Adapter& adapter, const Architecture& architecture, std::span<const TensorInfo> tensors) {
    if (adapter.targeted.empty()) return;
    Assignment assignment(adapter, architecture, tensors);
    for (auto& [module, targeted] : adapter.targeted) assignment.assign(module, targeted);
    adapter.targeted.clear();
}

}  // namespace aimerge
