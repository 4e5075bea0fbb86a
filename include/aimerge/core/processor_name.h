#pragma once

#include <string>

namespace aimerge {

/// "AMD EPYC 9654 96-Core Processor"; where /proc/cpuinfo has no such name (ARM), the architecture: "aarch64".
std::string processorName();

}  // namespace aimerge
