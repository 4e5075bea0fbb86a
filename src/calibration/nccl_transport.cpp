#include "calibration/nccl_transport.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/device/cuda_call.h"
#include "aimerge/distributed/patience.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/format.h>
#include <nccl.h>

#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace aimerge {
namespace {

/// Under a non-blocking communicator "in progress" is an answer like success; waitUntilReady() comes to the end of it.
void checkNccl(ncclResult_t result, std::string_view call, ncclComm_t communicator = nullptr) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    throw RuntimeFault("{} failed: {} ({})", call, ncclGetErrorString(result), ncclGetLastError(communicator));
}

class Event {
public:
    Event() { checkCuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate", 1, "event"); }
    ~Event() { cudaEventDestroy(event_); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(cudaStream_t stream) { checkCuda(cudaEventRecord(event_, stream), "cudaEventRecord", 1, "event"); }
    void holdBack(cudaStream_t stream) const {
        checkCuda(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent", 1, "event");
    }
    bool isDone() const {
        const cudaError_t result = cudaEventQuery(event_);
        if (result == cudaErrorNotReady) return false;
        checkCuda(result, "cudaEventQuery", 1, "event");
        return true;
    }

private:
    cudaEvent_t event_ = nullptr;
};

/// A communicator of the ranks that run layers, numbered in the order of the stages.
class Communicator {
public:
    Communicator(World& world, const ncclUniqueId& id, int ranks, int rank) : world_(world) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        checkNccl(ncclCommInitRankConfig(&communicator_, ranks, id, rank, &config), "ncclCommInitRankConfig");
        checkCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate", 1, "stream");
        waitUntilReady("the set-up of NCCL");
    }

    /// A working communicator ends only with the process, when there is no rank left to finalize it with; a broken one ends
    /// at once, which also ends its kernels.
    ~Communicator() {
        ncclCommAbort(communicator_);
        cudaStreamDestroy(stream_);
    }
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    ncclComm_t handle() const { return communicator_; }
    cudaStream_t stream() const { return stream_; }

    /// Polls done() until it says true. @throws RuntimeFault, PeerFailed
    template <typename Done>
    void waitUntil(const Done& done, std::string_view purpose) {
        Patience patience(environment::collectiveTimeoutSeconds());
        while (!done()) {
            ncclResult_t state = ncclSuccess;
            checkNccl(ncclCommGetAsyncError(communicator_, &state), "ncclCommGetAsyncError");
            checkNccl(state, purpose, communicator_);
            world_.throwIfPeerFailed();
            if (patience.exhausted())
                throw RuntimeFault(
                    "no progress from another rank for {:g} s in {}: it hangs or its machine is gone "
                    "(AIMERGE_COLLECTIVE_TIMEOUT sets the wait)",
                    patience.seconds(), purpose);
            patience.pause();
        }
    }

    void waitUntilReady(std::string_view purpose) {
        waitUntil(
            [&] {
                ncclResult_t state = ncclSuccess;
                checkNccl(ncclCommGetAsyncError(communicator_, &state), "ncclCommGetAsyncError");
                checkNccl(state, purpose, communicator_);
                return state == ncclSuccess;
            },
            purpose);
    }

private:
    World& world_;
    ncclComm_t communicator_ = nullptr;
    cudaStream_t stream_ = nullptr;
};

/// An exchange is one NCCL group: both of its messages are done when its event is.
struct Group {
    std::shared_ptr<Communicator> communicator;
    Event done;
};

class NcclTransfer : public Transfer {
public:
    NcclTransfer(std::shared_ptr<Group> group, std::string purpose)
        : group_(std::move(group)), purpose_(std::move(purpose)) {}

    /// Also holds back what is queued for libtorch from now on.
    void wait() override {
        group_->communicator->waitUntil([this] { return group_->done.isDone(); }, purpose_);
        group_->done.holdBack(c10::cuda::getCurrentCUDAStream().stream());
    }

private:
    std::shared_ptr<Group> group_;
    std::string purpose_;
};

class NcclTransport : public HiddenTransport {
public:
    /// @param number of the stage
    NcclTransport(std::shared_ptr<Communicator> communicator, int number)
        : communicator_(std::move(communicator)), number_(number), exceptions_(std::uncaught_exceptions()) {}

    ~NcclTransport() override;

    Exchange start(const at::Tensor& outgoing, const at::Tensor& incoming) override {
        Communicator& with = *communicator_;
        computed_.record(c10::cuda::getCurrentCUDAStream().stream());  // what is sent is made; what is overwritten, read
        computed_.holdBack(with.stream());
        checkNccl(ncclGroupStart(), "ncclGroupStart", with.handle());
        if (incoming.defined())
            checkNccl(ncclRecv(incoming.data_ptr(), incoming.nbytes(), ncclInt8, number_ - 1, with.handle(), with.stream()),
                      "ncclRecv", with.handle());
        if (outgoing.defined())
            checkNccl(ncclSend(outgoing.data_ptr(), outgoing.nbytes(), ncclInt8, number_ + 1, with.handle(), with.stream()),
                      "ncclSend", with.handle());
        checkNccl(ncclGroupEnd(), "ncclGroupEnd", with.handle());
        with.waitUntilReady("ncclGroupEnd");  // the group is on the stream
        auto group = std::make_shared<Group>(communicator_);
        group->done.record(with.stream());
        Exchange exchange;
        if (incoming.defined())
            exchange.incoming = std::make_unique<NcclTransfer>(
                group, fmt::format("ncclRecv of {} bytes from stage {}", incoming.nbytes(), number_ - 1));
        if (outgoing.defined())
            exchange.outgoing = std::make_unique<NcclTransfer>(
                group, fmt::format("ncclSend of {} bytes to stage {}", outgoing.nbytes(), number_ + 1));
        return exchange;
    }

private:
    std::shared_ptr<Communicator> communicator_;
    int number_, exceptions_;
    Event computed_;
};

/// The ranks of the last pipelines and the communicator of this rank's, which is null on a rank without a neighbour: setting
/// one up costs a second, and a sweep runs many passes. Never destroyed with the process's static objects: CUDA may be gone
/// before them.
struct LastPipelines {
    std::vector<std::vector<int>> ranks;
    std::shared_ptr<Communicator> communicator;
};

LastPipelines& lastPipelines() {
    static auto* const last = new LastPipelines;
    return *last;
}

/// Collective. Of this rank's pipeline; rank 0 makes one for each.
ncclUniqueId shareId(World& world, const Stage& stage) {
    std::string text;
    ncclUniqueId id{};
    if (world.isRoot())
        for (std::size_t i = 0; i < stage.pipelines.size(); ++i) {
            checkNccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
            text.append(id.internal, sizeof id.internal);
        }
    text = world.broadcast(std::move(text));
    std::memcpy(id.internal, text.data() + static_cast<std::size_t>(stage.replica) * sizeof id.internal, sizeof id.internal);
    return id;
}

NcclTransport::~NcclTransport() {
    if (std::uncaught_exceptions() > exceptions_) lastPipelines() = {};  // the last owner of a communicator ends its kernels
}

/// A rank that runs no layer.
class NoTransport : public HiddenTransport {
public:
    Exchange start(const at::Tensor&, const at::Tensor&) override { return {}; }
};

}  // namespace

std::unique_ptr<HiddenTransport> openNcclTransport(World& world, const Stage& stage) {
    const bool hasNeighbour = !stage.empty() && stage.stages > 1;
    LastPipelines& last = lastPipelines();
    if (stage.pipelines != last.ranks) {
        const ncclUniqueId id = shareId(world, stage);
        last = {};
        if (hasNeighbour) last.communicator = std::make_shared<Communicator>(world, id, stage.stages, stage.number());
        last.ranks = stage.pipelines;
    }
    if (!hasNeighbour) return std::make_unique<NoTransport>();
    return std::make_unique<NcclTransport>(last.communicator, stage.number());
}

}  // namespace aimerge
