// Workers: the threads that compute, as a TBB arena behind one call.
//
// run() is the only parallel construct of the project: independent tasks, a barrier at the end.
// Which thread runs which task never shows in a result, because every task writes its own output.
// Owns: the arena. Threads: one caller at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

namespace sluice {

class Workers {
 public:
  // threads ≥ 1, the calling thread counted in.
  explicit Workers(uint32_t threads);
  ~Workers();
  Workers(Workers&&) noexcept;

  uint32_t threads() const { return threads_; }

  // Calls body(task, worker) for every task in [0, tasks) and returns when all are done. worker is
  // in [0, threads()) and no two tasks with the same worker run at once: an index for scratch
  // memory. Everything written before run() is seen by the tasks, everything they wrote is seen
  // after it. Requires: body does not throw.
  template <class Body>
  void run(uint32_t tasks, Body&& body) {
    run_erased(
        tasks,
        [](void* closure, uint32_t task, uint32_t worker) {
          (*static_cast<std::remove_reference_t<Body>*>(closure))(task, worker);
        },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

  // From now on the thread that calls run() calls this after each task that it has done itself, so
  // that what only it may do, such as looking after reads, does not wait for the others. Empty:
  // nothing. What it uses has to stay until the last run() or until another one is given. Requires:
  // it does not run() in its turn, nor throw.
  void between_tasks(std::function<void()> chore) { chore_ = std::move(chore); }

 private:
  using Call = void (*)(void* closure, uint32_t task, uint32_t worker);
  void run_erased(uint32_t tasks, Call call, void* closure);

  struct Arena;
  std::unique_ptr<Arena> arena_;
  std::function<void()> chore_;
  uint32_t threads_ = 1;
};

// How many threads this process may run on (its CPU affinity).
uint32_t available_threads();

}  // namespace sluice
