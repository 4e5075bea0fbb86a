#include "aimerge/merge/instruction_set.h"

#include <algorithm>

namespace aimerge {
namespace {

InstructionSet detect() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2 && avx512) return InstructionSet::Avx512;
    if (avx2) return InstructionSet::Avx2;
#endif
    return InstructionSet::Baseline;
}

InstructionSet& inUse() {
    static InstructionSet set = bestInstructionSet();
    return set;
}

}  // namespace

InstructionSet bestInstructionSet() {
    static const InstructionSet best = detect();
    return best;
}

InstructionSet instructionSet() {
    return inUse();
}

void limitInstructionSet(InstructionSet most) {
    inUse() = std::min(most, bestInstructionSet());
}

}  // namespace aimerge
