#pragma once
// AIMERGE_HD marks a function that is compiled for the host and, in a .cu file, for the device too: one text for both.

#if defined(__CUDACC__)
#define AIMERGE_HD __host__ __device__
#else
#define AIMERGE_HD
#endif
