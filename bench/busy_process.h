// BusyProcess: a process that computes without pause, as a neighbour on a shared machine does.
//
// Lives as long as the object, and no longer than the process that made it. Threads: one.
#pragma once

#include <sys/types.h>

namespace sluice::bench {

class BusyProcess {
 public:
  // Throws Error: no process to be had.
  BusyProcess();
  ~BusyProcess();
  BusyProcess(const BusyProcess&) = delete;
  BusyProcess& operator=(const BusyProcess&) = delete;

 private:
  pid_t process_;
};

}  // namespace sluice::bench
