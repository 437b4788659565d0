// Cycles of the processor that the calling thread takes for something.
//
// Real ones where the kernel counts them for this thread (perf_event_open), in user mode alone;
// else reference cycles: the processor time of the thread at the rate of the time-stamp counter,
// which is the processor's nominal frequency whatever it runs at just now.
#pragma once

#include <functional>
#include <string>

#include "io/posix_file.h"

namespace sluice::bench {

class CycleCounter {
 public:
  CycleCounter();  // counts the thread that makes it; call cycles_of from no other
  // 0 where there is neither counter nor time-stamp counter.
  double cycles_of(const std::function<void()>& work) const;
  // "real cycles (perf_event_open)", "reference cycles at 2.00 GHz (rdtsc)"
  const std::string& description() const { return description_; }

 private:
  FileDescriptor counter_;
  double reference_hz_ = 0;
  std::string description_;
};

}  // namespace sluice::bench
