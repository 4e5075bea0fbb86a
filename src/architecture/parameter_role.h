#pragma once
// What a tensor is for, by its name and shape.

#include "aimerge/architecture/architecture.h"

#include <string_view>

namespace aimerge {

/// What is known of the model besides the tensor's own name.
struct RoleHints {
    std::int64_t vocabularySize = 0, experts = 0;
    bool isInLayer = false;
};

Role roleOf(std::string_view tensor, const Shape& shape, const RoleHints& hints);

/// Where a tensor outside of the layers stands; Aside where its name does not tell.
Part partOutsideLayers(std::string_view tensor);

/// The number of the expert whose tensor it is; -1: it is not of a single one.
std::int64_t expertOf(std::string_view tensor);

}  // namespace aimerge
