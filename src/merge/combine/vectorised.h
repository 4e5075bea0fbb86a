#pragma once
// Runs the body of a loop as compiled for the vector instructions in use: three thin functions that differ in their target
// attribute alone, into which the body is inlined. The compiler vectorises; these files are built with -O3.
//
//     vectorised([=]() AIMERGE_INLINE_BODY { for (std::size_t i = 0; i < count; ++i) out[i] = f(in[i]); });
//
// Captures are copies, so that the loop's pointers and coefficients are in registers. With sanitizers there is one of the three:
// they check the memory accesses of the text, which the others share, and three would take three times as long to compile.

#include "aimerge/merge/instruction_set.h"

#define AIMERGE_INLINE_BODY __attribute__((always_inline))

#if defined(__x86_64__)
#define AIMERGE_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,lzcnt,popcnt")))
#define AIMERGE_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,lzcnt,popcnt")))
#else
#define AIMERGE_TARGET_AVX512
#define AIMERGE_TARGET_AVX2
#endif

namespace aimerge {

template <typename Body>
AIMERGE_TARGET_AVX512 __attribute__((noinline)) auto runAvx512(Body body) {
    return body();
}

template <typename Body>
AIMERGE_TARGET_AVX2 __attribute__((noinline)) auto runAvx2(Body body) {
    return body();
}

template <typename Body>
__attribute__((noinline)) auto runBaseline(Body body) {
    return body();
}

template <typename Body>
auto vectorised(Body body) {
#ifndef AIMERGE_ONE_INSTRUCTION_SET
    switch (instructionSet()) {
        case InstructionSet::Avx512:
            return runAvx512(body);
        case InstructionSet::Avx2:
            return runAvx2(body);
        case InstructionSet::Baseline:
            break;
    }
#endif
    return runBaseline(body);
}

}  // namespace aimerge
