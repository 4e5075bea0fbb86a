#include "aimerge/calibration/hidden_transport.h"

#include "calibration/tensor_bytes.h"

#if AIMERGE_HAS_CUDA
#include "calibration/nccl_transport.h"
#endif

namespace aimerge {
namespace {

constexpr int kHiddenStateTag = 11;

class MpiTransfer : public Transfer {
public:
    explicit MpiTransfer(World::Request request) : request_(std::move(request)) {}
    void wait() override { request_.wait(); }

private:
    World::Request request_;
};

}  // namespace

Exchange MpiTransport::start(const at::Tensor& outgoing, const at::Tensor& incoming) {
    Exchange exchange;
    if (incoming.defined())
        exchange.incoming =
            std::make_unique<MpiTransfer>(world_.receive(stage_.previous, kHiddenStateTag, bytesOf(incoming)));
    if (outgoing.defined())
        exchange.outgoing = std::make_unique<MpiTransfer>(world_.send(stage_.next, kHiddenStateTag, bytesOf(outgoing)));
    return exchange;
}

std::unique_ptr<HiddenTransport> openTransport(World& world, const Stage& stage, [[maybe_unused]] const Device& device) {
#if AIMERGE_HAS_CUDA
    if (device.isGpu() && world.size() > 1) return openNcclTransport(world, stage);
#endif
    return std::make_unique<MpiTransport>(world, stage);
}

}  // namespace aimerge
