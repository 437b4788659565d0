#include "model/workers.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "io/check.h"
#include "model/task_arena.h"

namespace sluice {

// The members up to `published` are those of the run at hand: written before it is released and
// read after it is acquired; whatever a task wrote is released by `finished`.
struct Workers::Arena {
  explicit Arena(uint32_t threads) : tasks(threads) {}

  TaskArena tasks;
  Call call = nullptr;
  void* closure = nullptr;
  const std::function<void()>* chore = nullptr;
  std::thread::id caller;
  std::atomic<uint64_t> published{0};
  std::atomic<uint64_t> finished{0};
};

Workers::Workers(uint32_t threads) : threads_(threads) {
  SLUICE_CHECK(threads >= 1);
  arena_ = std::make_unique<Arena>(threads);
}

Workers::~Workers() = default;
Workers::Workers(Workers&&) noexcept = default;

void Workers::run_erased(uint32_t tasks, Call call, void* closure) {
  if (threads_ == 1 || tasks <= 1) {
    for (uint32_t task = 0; task < tasks; ++task) {
      call(closure, task, 0);
      if (chore_) chore_();
    }
    return;
  }
  Arena& shared = *arena_;
  shared.call = call;
  shared.closure = closure;
  shared.chore = chore_ ? &chore_ : nullptr;
  shared.caller = std::this_thread::get_id();
  shared.published.fetch_add(1, std::memory_order_release);
  shared.tasks.run(
      tasks,
      [](void* context, uint32_t task, uint32_t worker) {
        Arena& own = *static_cast<Arena*>(context);
        (void)own.published.load(std::memory_order_acquire);
        const bool has_chore = own.chore != nullptr && std::this_thread::get_id() == own.caller;
        own.call(own.closure, task, worker);
        own.finished.fetch_add(1, std::memory_order_release);  // a worker reads nothing after it
        if (has_chore) (*own.chore)();
      },
      &shared);
  (void)shared.finished.load(std::memory_order_acquire);
}

uint32_t available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace sluice
