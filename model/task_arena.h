// TaskArena: TBB's task arena and parallel loop, apart from everything that is compiled with a race
// detector.
//
// oneTBB's library is not instrumented, and its headers expand the other half of its
// synchronization into whoever includes them, where a race detector then sees only half and cries.
// So TBB is included by task_arena.cpp alone, which is compiled without the detector;
// model/workers.cpp says the ordering again in terms it sees. Owns: the arena. Threads: one caller
// at a time.
#pragma once

#include <cstdint>
#include <memory>

namespace sluice {

class TaskArena {
 public:
  using Call = void (*)(void* context, uint32_t task, uint32_t worker);

  // threads ≥ 1, the calling thread counted in; more than there are cores is allowed.
  explicit TaskArena(uint32_t threads);
  ~TaskArena();

  // call(context, task, worker) for every task in [0, tasks), worker < threads; returns after the
  // last.
  void run(uint32_t tasks, Call call, void* context);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
