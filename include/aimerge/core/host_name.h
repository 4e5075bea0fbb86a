#pragma once

#include <string>

namespace aimerge {

/// This machine's, as gethostname() says it: for locks, logs and records.
std::string hostName();

}  // namespace aimerge
