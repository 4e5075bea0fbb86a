// print_logits MODEL... -- ID...: float32 logits of one sequence, [length, vocabulary], raw on standard output, of one model
// after another. For the comparison of the decoder with transformers on whole models. Computes on the first GPU where there
// is one.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/device/device.h"
#include "aimerge/model/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

namespace {

using namespace aimerge;

bool print(const char* model, const std::vector<std::int32_t>& ids, const Device& device) {
    const auto length = static_cast<std::int64_t>(ids.size());
    const Checkpoint checkpoint = Checkpoint::open(model);
    const Decoder decoder(checkpoint, Dtype::F32, length, device);
    at::Tensor hidden = decoder.emptyHidden(1, length);
    decoder.embed(ids, hidden);
    for (std::int64_t layer = 0; layer < decoder.layers(); ++layer)
        decoder.runLayer(layer, decoder.loadLayer(layer), hidden, nullptr);
    const at::Tensor logits =
        decoder.runHead(decoder.loadHead(), decoder.runFinalNorm(decoder.loadFinalNorm(), hidden, nullptr))
            .cpu()
            .contiguous();
    const auto count = static_cast<std::size_t>(logits.numel());
    return std::fwrite(logits.const_data_ptr<float>(), sizeof(float), count, stdout) == count;
}

}  // namespace

int main(int argc, char** argv) {
    const c10::InferenceMode inference;
    const std::span arguments(argv + 1, argv + argc);
    const auto middle = std::ranges::find(arguments, std::string_view("--"));
    if (middle == arguments.end()) return 2;
    std::vector<std::int32_t> ids;
    for (auto id = middle + 1; id != arguments.end(); ++id) ids.push_back(std::atoi(*id));
    const std::vector<Device> gpus = visibleGpus().gpus;
    const Device device = gpus.empty() ? Device{} : gpus.front();
    useDevice(device);
    for (auto model = arguments.begin(); model != middle; ++model)
        if (!print(*model, ids, device)) return 1;
}
