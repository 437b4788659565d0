// Which table this processor runs: the best, or the one that SLUICE_ISA names.
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sluice::kernels {
namespace {

constexpr Isa kBestFirst[] = {Isa::amx, Isa::avx512, Isa::avx2, Isa::scalar};

const Table* compiled_table(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return scalar_table();
    case Isa::avx2:
      return avx2_table();
    case Isa::avx512:
      return avx512_table();
    case Isa::amx:
      return amx_table();
  }
  return nullptr;
}

#if defined(__x86_64__) && defined(__linux__)
bool has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (edx & kTile) != 0 && (edx & kInt8) != 0;
}
// Whether the operating system saves the tiles. Requires: it saves any registers by xsave.
bool tiles_are_saved() {
  constexpr unsigned kTileStates = 3u << 17;  // configuration and data
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileStates) == kTileStates;
}
// Tiles are 8 KiB more to save for each thread, and Linux wants to be asked before a process uses
// them; the answer is for all of its threads.
bool tiles_are_permitted() {
  constexpr long kArchReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}
#else
bool has_amx() { return false; }
bool tiles_are_saved() { return false; }
bool tiles_are_permitted() { return false; }
#endif

// The builtins know cpuid as well as whether the operating system saves the wide registers.
#if defined(__x86_64__)
bool processor_runs(Isa isa) {
  const auto has_f16c = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  };
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::avx512:
      return processor_runs(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::amx: {
      static const bool runs =
          processor_runs(Isa::avx512) && has_amx() && tiles_are_saved() && tiles_are_permitted();
      return runs;
    }
  }
  return false;
}
#else
bool processor_runs(Isa isa) { return isa == Isa::scalar; }
#endif

const Table* best_table() {
  for (const Isa isa : kBestFirst) {
    if (supported(isa)) return compiled_table(isa);
  }
  return nullptr;
}

// The table of that name, or a message and the end of the program.
const Table* named_table(const char* name) {
  constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "amx"};  // as in Isa
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (std::strcmp(name, kNames[i]) != 0) continue;
    const Isa isa = static_cast<Isa>(i);
    if (supported(isa)) return compiled_table(isa);
    std::fprintf(stderr,
                 "SLUICE_ISA=%s: this processor lacks it; the best it runs is %s. Unset the "
                 "variable to have the best picked.\n",
                 name, best_table()->name);
    std::exit(2);
  }
  std::fprintf(stderr, "SLUICE_ISA=%s: no such table; expected scalar, avx2, avx512 or amx.\n",
               name);
  std::exit(2);
}

}  // namespace

bool supported(Isa isa) { return compiled_table(isa) != nullptr && processor_runs(isa); }

const Table& table(Isa isa) {
  assert(supported(isa));
  return *compiled_table(isa);
}

const Table& table() {
  static const Table* const picked = [] {
    const char* name = std::getenv("SLUICE_ISA");
    return name == nullptr || *name == '\0' ? best_table() : named_table(name);
  }();
  return *picked;
}

}  // namespace sluice::kernels
