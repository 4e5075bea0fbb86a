#pragma once
// AIMERGE_CPU_CLONES before a function: the compiler makes it for AVX-512, AVX2 and plain x86-64, and the right one is
// chosen when the program is loaded. Contraction is off and every loop keeps its order, so all of them give the same bits.
// The choice runs before the sanitizers are ready, so their builds have the plain function only.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define AIMERGE_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // which cannot choose by level
#define AIMERGE_CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define AIMERGE_CPU_CLONES
#endif
