#pragma once
// What carries hidden states between neighbouring stages: MPI between processors, NCCL between GPUs. When a stage sends and
// receives is the same for all of them (calibration/pipeline.h, stage_link.h).

#include "aimerge/device/device.h"
#include "aimerge/distributed/world.h"
#include "calibration/stage.h"

#include <ATen/core/Tensor.h>

#include <memory>

namespace aimerge {

/// A message on its way. One that goes before it has been waited for is given up.
class Transfer {
public:
    virtual ~Transfer() = default;
    /// Returns when the message has left or arrived. @throws as World's waits do
    virtual void wait() = 0;
};

/// Null where there was nothing to send or receive.
struct Exchange {
    std::unique_ptr<Transfer> outgoing, incoming;
};

class HiddenTransport {
public:
    virtual ~HiddenTransport() = default;

    /// Starts sending to the stage after and receiving from the stage before, neither waiting for the other. Messages
    /// between two stages arrive in the order in which they were started; both sides name the same number of bytes.
    /// @param outgoing, incoming undefined where there is none; contiguous, and left alone until they are waited for
    virtual Exchange start(const at::Tensor& outgoing, const at::Tensor& incoming) = 0;
};

class MpiTransport : public HiddenTransport {
public:
    MpiTransport(World& world, const Stage& stage) : world_(world), stage_(stage) {}
    Exchange start(const at::Tensor& outgoing, const at::Tensor& incoming) override;

private:
    World& world_;
    const Stage& stage_;
};

/// Collective. MPI, or NCCL where ranks compute on GPUs and there are several stages.
/// @param stage must outlive what is returned
std::unique_ptr<HiddenTransport> openTransport(World& world, const Stage& stage, const Device& device);

}  // namespace aimerge
