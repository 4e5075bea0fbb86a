#include "aimerge/core/version.h"

namespace aimerge {

constinit const std::string_view kVersion = AIMERGE_VERSION;

}  // namespace aimerge
