// SLUICE_CHECK: a condition that only a bug of ours can break. On in every build; aborts with its
// place. Never for anything that data from outside can cause: that is an Error.
#pragma once

#include <cstdio>
#include <cstdlib>

#define SLUICE_CHECK(condition)                                                           \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: bug in sluice: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
