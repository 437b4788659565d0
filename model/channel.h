// Channel: a queue between two threads, first in, first out, that either may close.
//
// Closing ends the waiting of both sides: what is queued can still be taken, nothing more is put.
// It holds as many items as the sides put in; a fixed set of items going round between two channels
// is what bounds it. Threads: any.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace sluice {

template <class Item>
class Channel {
 public:
  void put(Item item) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      items_.push_back(std::move(item));
    }
    changed_.notify_one();
  }
  // Waits for an item; empty once closed and drained.
  std::optional<Item> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    std::optional<Item> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }
  // Closes, and drops what is queued: after a failure nobody wants it.
  void abandon() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      items_.clear();
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  bool closed_ = false;
};

}  // namespace sluice
