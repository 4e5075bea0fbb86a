#pragma once
// What carries hidden states between neighbouring stages: MPI between processors, NCCL between GPUs. When a stage sends and
// receives is the same for all of them (distributed/pipeline.h, stage_link.h).

#include "aimerge/device/device.h"
#include "aimerge/distributed/message_link.h"
#include "aimerge/distributed/world.h"

#include <ATen/core/Tensor.h>

#include <memory>

namespace aimerge {

/// Transports hidden states [sequences, length, hidden], contiguous; an undefined tensor means none.
using HiddenTransport = MessageTransport<at::Tensor>;

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
