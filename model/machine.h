// Machine: how much memory this process may use, and how much it uses.
//
// Reads cgroup v1 and v2 limits (the tightest on the path from this process' cgroup to the root)
// and MemAvailable. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice {

struct MemoryLimits {
  uint64_t total_bytes = 0;      // MemTotal
  uint64_t available_bytes = 0;  // MemAvailable
  std::optional<uint64_t>
      cgroup_limit_bytes;          // memory.max / memory.limit_in_bytes, if any below total
  uint64_t cgroup_used_bytes = 0;  // of that cgroup, without reclaimable page cache
  // What may still be allocated: min(available, limit - used).
  uint64_t usable_bytes() const;
  // "23.4 GB available", "3.2 GB left of the cgroup's 4 GB limit"
  std::string text() const;
};

// root: "" on a real machine; tests give a directory that holds proc/ and sys/fs/cgroup/.
MemoryLimits memory_limits(const std::string& root = "");

uint64_t resident_bytes();       // VmRSS of this process
uint64_t peak_resident_bytes();  // VmHWM

}  // namespace sluice
