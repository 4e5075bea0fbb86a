// print_logits MODEL ID...: float32 logits of one sequence, [length, vocabulary], raw on standard output. For the comparison
// of the decoder with transformers on whole models. Computes on the first GPU where there is one.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/device/device.h"
#include "aimerge/model/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
    using namespace aimerge;
    const c10::InferenceMode inference;
    std::vector<std::int32_t> ids;
    for (int i = 2; i < argc; ++i) ids.push_back(std::atoi(argv[i]));
    const auto length = static_cast<std::int64_t>(ids.size());

    const Checkpoint checkpoint = Checkpoint::open(argv[1]);
    const std::vector<Device> gpus = visibleGpus().gpus;
    const Device device = gpus.empty() ? Device{} : gpus.front();
    useDevice(device);
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
    return std::fwrite(logits.const_data_ptr<float>(), sizeof(float), count, stdout) == count ? 0 : 1;
}
