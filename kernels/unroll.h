// SLUICE_UNROLL, before a loop over an array of registers where it matters: GCC 12 otherwise
// decides where such an array lives before it unrolls, and keeps it in memory from one loop to the
// next.
#pragma once

#ifdef __clang__
#define SLUICE_UNROLL _Pragma("unroll")
#else
#define SLUICE_UNROLL _Pragma("GCC unroll 16")
#endif
