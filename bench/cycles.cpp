#include "bench/cycles.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "bench/ceiling.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace sluice::bench {
namespace {

int open_counter() {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.size = sizeof attributes;
  attributes.config = PERF_COUNT_HW_CPU_CYCLES;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  return static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}

std::optional<uint64_t> count_of(const FileDescriptor& counter) {
  uint64_t count = 0;
  if (!counter.valid() || read(counter.get(), &count, sizeof count) != sizeof count) return {};
  return count;
}

// Of the time-stamp counter, against the clock for 20 ms. 0: there is none.
double measure_reference_hz() {
#if defined(__x86_64__)
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const uint64_t first = __rdtsc();
  Clock::time_point now;
  do {
    now = Clock::now();
  } while (now - start < std::chrono::milliseconds(20));
  return static_cast<double>(__rdtsc() - first) /
         std::chrono::duration<double>(now - start).count();
#else
  return 0;
#endif
}

}  // namespace

CycleCounter::CycleCounter() : counter_(open_counter()) {
  // Some virtual machines give a counter that never counts.
  const std::optional<uint64_t> before = count_of(counter_);
  reference_hz_ = measure_reference_hz();
  const std::optional<uint64_t> after = count_of(counter_);
  if (before && after && *after > *before) {
    description_ = "real cycles (perf_event_open)";
    return;
  }
  counter_.close();
  char text[64];
  std::snprintf(text, sizeof text, "reference cycles at %.2f GHz (rdtsc)", reference_hz_ / 1e9);
  description_ = reference_hz_ > 0 ? text : "no cycles to be had";
}

double CycleCounter::cycles_of(const std::function<void()>& work) const {
  const std::optional<uint64_t> before = count_of(counter_);
  const Seconds seconds = seconds_on(1, [&](uint32_t) { work(); });
  const std::optional<uint64_t> after = count_of(counter_);
  if (before && after) return static_cast<double>(*after - *before);
  return seconds.own * reference_hz_;
}

}  // namespace sluice::bench
