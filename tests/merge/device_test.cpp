// Every kernel that is compiled for the device, against the CPU.

#include "merge/device.h"
#include "merge/strided_walk_cases.h"

namespace aimerge {
namespace {

struct DeviceWalker {
    using Memory = DeviceMemory;

    template <typename Walk>
    static void run(const Walk& walk) {
        forEachElementOnDevice(walk);
    }

    static void fetch(const Memory& memory, std::span<std::byte> out) { memory.download(out); }
};

TEST(Device, HasTheBitsOfTheCpuMerge) {
    expectEveryMethodToAgree<DeviceWalker>();
}

}  // namespace
}  // namespace aimerge
