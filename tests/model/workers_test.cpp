#include "model/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace sluice {
namespace {

TEST(Workers, TheCallerDoesItsChoreAfterEachOfItsTasks) {
  for (const uint32_t threads : {1u, 2u}) {
    Workers workers(threads);
    for (const uint32_t tasks : {1u, 2u, 100u}) {
      const std::thread::id caller = std::this_thread::get_id();
      uint32_t chores = 0;  // only the caller's thread touches these two
      uint32_t own_tasks = 0;
      workers.between_tasks([&] {
        EXPECT_EQ(std::this_thread::get_id(), caller);
        ++chores;
        EXPECT_EQ(chores, own_tasks);
      });
      std::atomic<uint32_t> done{0};
      workers.run(tasks, [&](uint32_t, uint32_t) {
        if (std::this_thread::get_id() == caller) ++own_tasks;
        ++done;
      });
      EXPECT_EQ(done, tasks);
      EXPECT_EQ(chores, own_tasks);
      if (threads == 1) {
        EXPECT_EQ(chores, tasks);
      }
    }
  }
}

TEST(Workers, AnEmptyChoreIsNone) {
  Workers workers(2);
  uint32_t chores = 0;
  workers.between_tasks([&] { ++chores; });
  workers.between_tasks({});
  workers.run(10, [](uint32_t, uint32_t) {});
  EXPECT_EQ(chores, 0u);
}

}  // namespace
}  // namespace sluice
