#pragma once
// Which vector instructions the kernels of this room use. Every kernel is compiled for each of them from one text, and all
// give the same bits: contraction is off and no sum is reordered.

namespace aimerge {

enum class InstructionSet { Baseline, Avx2, Avx512 };  // in ascending order

/// The best one this CPU has.
InstructionSet bestInstructionSet();

/// The one in use: the best, unless limited.
InstructionSet instructionSet();

/// For tests: use at most this one from now on. Not thread-safe.
void limitInstructionSet(InstructionSet most);

}  // namespace aimerge
