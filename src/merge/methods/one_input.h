#pragma once
// The prepared parameter of methods whose combine takes one input and the same coefficients for every element.

#include "merge/combine/walked_parameter.h"

namespace aimerge {

template <typename Combine>
class PreparedOneInput : public WalkedParameter<PreparedOneInput<Combine>> {
public:
    explicit PreparedOneInput(const Combine& kernel) : kernel_(kernel) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        forEachElement<1>(kernel_, tile);
    }

private:
    Combine kernel_;
};

}  // namespace aimerge
