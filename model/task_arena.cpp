#include "model/task_arena.h"

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

namespace sluice {

struct TaskArena::Impl {
  explicit Impl(uint32_t threads)
      : parallelism(tbb::global_control::max_allowed_parallelism, threads),
        arena(static_cast<int>(threads)) {}

  tbb::global_control parallelism;  // more threads than cores, if that is what was asked for
  tbb::task_arena arena;
};

TaskArena::TaskArena(uint32_t threads) : impl_(std::make_unique<Impl>(threads)) {}
TaskArena::~TaskArena() = default;

void TaskArena::run(uint32_t tasks, Call call, void* context) {
  impl_->arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<uint32_t>(0, tasks, 1),
        [&](const tbb::blocked_range<uint32_t>& range) {
          const auto worker = static_cast<uint32_t>(tbb::this_task_arena::current_thread_index());
          for (uint32_t task = range.begin(); task != range.end(); ++task) {
            call(context, task, worker);
          }
        },
        tbb::simple_partitioner());
  });
}

}  // namespace sluice
