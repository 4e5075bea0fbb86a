#pragma once
// The prepared parameter of methods whose combine takes one input and the same coefficients for every element.

#include "aimerge/merge/method.h"
#include "merge/for_each_element.h"

namespace aimerge {

template <typename Combine>
class PreparedOneInput : public PreparedParameter {
public:
    explicit PreparedOneInput(const Combine& kernel) : kernel_(kernel) {}

    void combine(std::int64_t /*first*/, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        forEachElement<1>(kernel_, base, inputs, out);
    }

private:
    Combine kernel_;
};

}  // namespace aimerge
