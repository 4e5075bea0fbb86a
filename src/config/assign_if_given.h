#pragma once
// A key that is absent leaves its field at the default.

#include <optional>

namespace aimerge {

template <typename Value>
void assignIfGiven(Value& target, const std::optional<Value>& value) {
    if (value) target = *value;
}

}  // namespace aimerge
