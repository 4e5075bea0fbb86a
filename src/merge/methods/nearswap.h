#pragma once
// NearSwap, from the model card of alchemonaut/QuartetAnemoi-70B-t0.0001: takes over what another model has changed little.
// With a = theta_base and c = theta_1, element by element:
//
//     w = min(1, t / max(|a - c|, 1e-6)),   theta = w c + (1 - w) a
//
// Elements no further apart than t become those of the other model; all others move by t.

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// One input. Elements without a change, and those at either end (w = 0 or 1), are taken over bit by bit.
struct NearswapCombine {
    static constexpr bool kTakesBase = true;
    float t;  // >= 0

    AIMERGE_KERNEL float operator()(float base, const InputsAt<1>& theta) const {
        const float other = theta[0];
        const std::uint32_t distance = bitsOfFloat(base - other) & 0x7FFFFFFFu, least = bitsOfFloat(1e-6f);
        const float weight = t / floatOfBits(selectBits(distance < least, least, distance));
        const std::uint32_t between = bitsOfFloat(weight * other + (1 - weight) * base);
        const std::uint32_t moved = selectBits(weight >= 1, bitsOfFloat(other), between);
        const bool stays = (distance == 0) | (weight == 0);
        return floatOfBits(selectBits(stays, bitsOfFloat(base), moved));
    }
};

const Method& nearswapMethod();

}  // namespace aimerge
