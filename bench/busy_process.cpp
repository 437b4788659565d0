#include "bench/busy_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "io/error.h"

namespace sluice::bench {

BusyProcess::BusyProcess() : process_(::fork()) {
  if (process_ < 0) throw Error("cannot start a busy process: ", errno_text(errno));
  if (process_ > 0) return;
  // The child: nothing but system calls, since its parent had threads that are not here.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (volatile unsigned count = 0;;) count = count + 1;
}

BusyProcess::~BusyProcess() {
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

}  // namespace sluice::bench
