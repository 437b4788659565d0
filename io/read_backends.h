// The two back ends of ReadQueue, as make_read_queue() makes them. Nobody else includes this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "io/read_queue.h"

namespace sluice {

// Null if the kernel does not let us, with the reason.  Requires: 1 <= depth <= kMaxQueueDepth.
std::unique_ptr<ReadQueue> make_uring_queue(uint32_t depth, std::string& reason);

// Throws Error if no thread can be started.
std::unique_ptr<ReadQueue> make_pread_queue(uint32_t depth);

}  // namespace sluice
