#include "aimerge/core/host_name.h"

#include <unistd.h>

namespace aimerge {

std::string hostName() {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) != 0) return "unknown host";
    return name;
}

}  // namespace aimerge
