#include "checkpoint/complete_weights.h"

#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>

namespace aimerge {

void refusePlaceholders(const Checkpoint& model) {
    const auto isPlaceholder = [](const TensorInfo& tensor) {
        const std::string_view name = tensor.name;
        return tensor.shape == Shape{0} && (name.ends_with(".weight") || name.ends_with(".bias"));
    };
    const std::vector<TensorInfo>& tensors = model.tensors();
    const auto first = std::ranges::find_if(tensors, isPlaceholder);
    if (first == tensors.end()) return;
    throw InputError(
        "{}: tensor {} has shape [0], as have {} of its {} tensors: the weights are not in the file. DeepSpeed ZeRO-3 "
        "leaves "
        "such tensors where parameters are not gathered before they are saved (stage3_gather_16bit_weights_on_model_save, "
        "or "
        "zero_to_fp32.py on the checkpoint)",
        model.files()[first->fileIndex].string(), first->name, std::ranges::count_if(tensors, isPlaceholder),
        tensors.size());
}

void sayMissingPredictionLayers(const Checkpoint& reference) {
    const auto isPrediction = [&](const TensorInfo& tensor) {
        return reference.architecture().placeOf(tensor.name).part == Part::Prediction;
    };
    for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"}) {
        const nlohmann::ordered_json* count = findOfText(reference.config(), key);
        if (count == nullptr || !count->is_number() || *count == 0) continue;
        if (std::ranges::any_of(reference.tensors(), isPrediction)) return;
        spdlog::info(
            "{}: config.json says {} {}, but there is no tensor of such layers, and the output has none either; programs "
            "that run them need 0 there",
            reference.name(), key, count->dump());
        return;
    }
}

}  // namespace aimerge
