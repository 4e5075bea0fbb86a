#pragma once
// Spherical linear interpolation between two models. Shoemake 1985, "Animating rotation with quaternion curves"; on weights
// as mergekit has it: each tensor is one vector, a = theta_base, c = theta_1, phi the angle between them.
//
//     theta = sin((1-t) phi) / sin phi  a  +  sin(t phi) / sin phi  c          linear, (1-t) a + t c, where |cos phi| >
//     0.9995
//
// The coefficients multiply the vectors as they are, not their directions. Norms below 1e-8
// count as 1. t = 0 gives the base.

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// One input. Equal values of both models stay what they are where the coefficients are those of the chord.
struct SlerpCombine {
    static constexpr bool kTakesBase = true;
    float ofBase, ofExpert;
    bool isChord;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<1>& theta) const {
        const std::uint32_t point = bitsOfFloat(ofBase * base + ofExpert * theta[0]);
        return floatOfBits(selectBits(isChord & (theta[0] == base), bitsOfFloat(base), point));
    }
};

const Method& slerpMethod();

}  // namespace aimerge
