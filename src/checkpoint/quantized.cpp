#include "checkpoint/quantized.h"

#include "aimerge/core/error.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <set>

namespace aimerge {
namespace {

/// The end of a name that a program gives to what stands beside its codes.
struct Mark {
    std::string_view end, program;
    std::string_view beside = {};  // the end of another tensor of the module, where the name is not of this program alone
};

constexpr std::array kMarks{Mark{".SCB", "bitsandbytes, 8 bits"}, Mark{".absmax", "bitsandbytes, 4 bits"},
                            Mark{".qweight", "GPTQ or AWQ"},      Mark{".weight_packed", "compressed-tensors"},
                            Mark{".weight_scale_inv", "FP8"},     Mark{".weight_scale", "FP8 or compressed-tensors"},
                            Mark{"_proj_scales", "MXFP4"},        Mark{".W_q", "HQQ"},
                            Mark{".scales", "MLX", ".weight"}};

/// Codes are bytes, 32-bit words that pack some, or floats of 8 bits and less; positions and counters have 64 bits.
bool isCode(const TensorInfo& tensor) {
    return !isMergeable(tensor.dtype) && tensor.dtype != Dtype::I64 && tensor.dtype != Dtype::Bool;
}

std::string withEnd(const std::string& name, std::string_view end, std::string_view other) {
    return name.substr(0, name.size() - end.size()).append(other);
}

/// A tensor that stands beside codes of the returned program, or null.
std::pair<const TensorInfo*, std::string_view> findMark(const Checkpoint& model) {
    for (const TensorInfo& tensor : model.tensors())
        for (const Mark& mark : kMarks)
            if (tensor.name.ends_with(mark.end) &&
                (mark.beside.empty() || model.find(withEnd(tensor.name, mark.end, mark.beside))))
                return {&tensor, mark.program};
    return {nullptr, ""};
}

/// {"bits":4,"quant_method":"gptq"}, or its beginning.
std::string sectionText(const Checkpoint& model) {
    constexpr std::size_t kLongest = 80;
    const std::string text =
        model.config().at("quantization_config").dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
    return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::string dtypesOf(const Checkpoint& model) {
    std::set<std::string_view> names;
    for (const TensorInfo& tensor : model.tensors()) names.insert(safetensorsName(tensor.dtype));
    return fmt::format("{}", fmt::join(names, " and "));
}

}  // namespace

void refuseQuantized(const Checkpoint& model) {
    const std::vector<TensorInfo>& tensors = model.tensors();
    const auto code = std::ranges::find_if(tensors, isCode);
    const auto [marked, program] = findMark(model);
    const bool hasCodes = code != tensors.end();
    if (model.modelConfig().quantized && (hasCodes || marked))
        throw InputError(
            "{}: is quantised: config.json has quantization_config {}, and tensor {} is {}; merge its unquantised BF16, F16 "
            "or F32 version",
            model.name(), sectionText(model), (hasCodes ? *code : *marked).name,
            safetensorsName((hasCodes ? *code : *marked).dtype));
    if (model.modelConfig().quantized)
        throw InputError(
            "{}: config.json has quantization_config {}, but all tensors are {}. If these are the plain weights, as "
            "programs "
            "make them that merge adapters into quantised models, remove quantization_config from config.json",
            model.name(), sectionText(model), dtypesOf(model));
    if (marked && hasCodes)
        throw InputError(
            "{}: is quantised ({}): it has the tensor {}, though config.json has no quantization_config; merge its "
            "unquantised BF16, F16 or F32 version",
            model.name(), program, marked->name);
    if (marked)
        spdlog::warn(
            "{}: has the tensor {}, which {} writes beside codes, but all tensors are {}; it is merged like any other, and "
            "no weight is multiplied by it",
            model.name(), marked->name, program, dtypesOf(model));
}

}  // namespace aimerge
