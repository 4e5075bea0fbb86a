#include "checkpoint/quantized.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

/// The end of a name that a program gives to what stands beside its codes.
struct Mark {
    std::string_view end, program;
};

constexpr std::array kMarks{Mark{".SCB", "bitsandbytes, 8 bits"}, Mark{".absmax", "bitsandbytes, 4 bits"},
                            Mark{".qweight", "GPTQ or AWQ"},      Mark{".weight_packed", "compressed-tensors"},
                            Mark{".weight_scale_inv", "FP8"},     Mark{".weight_scale", "FP8 or compressed-tensors"},
                            Mark{"_proj_scales", "MXFP4"}};

}  // namespace

void refuseQuantized(const Checkpoint& model) {
    if (model.modelConfig().quantized)
        throw InputError(
            "{}: is quantised (quantization_config in config.json); merge its unquantised BF16, F16 or F32 version",
            model.name());
    const std::vector<TensorInfo>& tensors = model.tensors();
    const auto isCode = [](const TensorInfo& tensor) { return !isMergeable(tensor.dtype); };
    if (std::ranges::none_of(tensors, isCode)) return;
    for (const TensorInfo& tensor : tensors)
        for (const Mark& mark : kMarks)
            if (tensor.name.ends_with(mark.end))
                throw InputError(
                    "{}: is quantised ({}): it has the tensor {}, though config.json has no quantization_config; merge its "
                    "unquantised BF16, F16 or F32 version",
                    model.name(), mark.program, tensor.name);
}

}  // namespace aimerge
