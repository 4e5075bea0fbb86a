#pragma once
// A prepared parameter whose combine is walked on the host and on the device from one text:
//
//     class PreparedSum : public WalkedParameter<PreparedSum> {
//     public:
//         template <typename Tile>
//         void walk(std::int64_t first, const Tile& tile) const { forEachElement<kInputs>(kernel, tile); }
//     };
//
// With AIMERGE_CUDA its combines need a .cu file (merge/combine/for_each_element.cuh).

#include "aimerge/merge/method.h"
#include "merge/combine/host_tile.h"
#if AIMERGE_HAS_CUDA
#include "merge/device/device_tile.h"
#endif

namespace aimerge {

template <typename Prepared>
class WalkedParameter : public PreparedParameter {
public:
    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        static_cast<const Prepared&>(*this).walk(first, HostTile{base, inputs, out});
    }
#if AIMERGE_HAS_CUDA
    bool runsOnDevice() const override {
        return true;
    }
    void combineOnDevice(std::int64_t first, const DeviceTile& tile) const override {
        static_cast<const Prepared&>(*this).walk(first, tile);
    }
#endif
};

}  // namespace aimerge
