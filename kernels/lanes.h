// Lanes: the 16 floats of the determinism rule in kernels.h as registers of one instruction set,
// one zmm or two ymm. The lanes_*.h beside this one write every float kernel once in terms of them.
//
// Everything here and there is in anonymous namespaces, included only by avx2.cpp and avx512.cpp
// and compiled under their flags: the linker must never pick code with such instructions for others
// (tests/check_isa_objects.sh).
#pragma once

#if defined(__AVX512F__)
#include "kernels/avx512_lanes.h"
#elif defined(__AVX2__)
#include "kernels/avx2_lanes.h"
#endif
