#include "tools/interrupt.h"

#include <atomic>
#include <csignal>

namespace sluice {
namespace {

std::atomic<bool> noted = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // so that a signal handler may write it

// Async-signal-safe: an atomic store and signal() alone.
void note(int) {
  noted = true;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

bool interrupted() { return noted; }

}  // namespace sluice
