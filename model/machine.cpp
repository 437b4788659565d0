#include "model/machine.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string_view>
#include <vector>

#include "model/plan.h"

namespace sluice {
namespace {

// The kernel's files are small; a longer one in a test tree is cut rather than read on.
constexpr size_t kMaxLineBytes = 4096;

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || rest == text.data()) return std::nullopt;
  return number;
}

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    line.resize(std::min(line.size(), kMaxLineBytes));
    lines.push_back(std::move(line));
  }
  return lines;
}

// A file that holds one number. "max" (no limit, cgroup v2) and no file are nullopt.
std::optional<uint64_t> read_number(const std::string& path) {
  const std::vector<std::string> lines = read_lines(path);
  return lines.empty() ? std::nullopt : parse_number(lines.front());
}

// The number behind a name, of files with lines such as "MemTotal:   123 kB" or "inactive_file
// 123".
std::optional<uint64_t> find_number(const std::vector<std::string>& lines, std::string_view name) {
  for (const std::string& line : lines) {
    if (!line.starts_with(name)) continue;
    const size_t digit = line.find_first_not_of(" \t", name.size());
    if (digit == std::string::npos || digit == name.size()) continue;  // a longer name
    return parse_number(std::string_view(line).substr(digit));
  }
  return std::nullopt;
}

uint64_t find_kilobytes(const std::vector<std::string>& lines, std::string_view name) {
  return find_number(lines, name).value_or(0) * 1024;
}

// How the two generations of cgroups name the same things. File-backed pages on the LRU lists are
// what the kernel drops first when the group nears its limit; memory in tmpfs is not among them.
struct CgroupFiles {
  std::array<const char*, 2> limits;  // the lower one counts; null: there is no second
  const char* used;
  const char* inactive_file;
  const char* active_file;
};
constexpr CgroupFiles kVersion1 = {.limits = {"memory.limit_in_bytes", nullptr},
                                   .used = "memory.usage_in_bytes",
                                   .inactive_file = "total_inactive_file",
                                   .active_file = "total_active_file"};
// Past memory.high the kernel stalls the group to make it shrink: as much a limit as memory.max.
constexpr CgroupFiles kVersion2 = {.limits = {"memory.max", "memory.high"},
                                   .used = "memory.current",
                                   .inactive_file = "inactive_file",
                                   .active_file = "active_file"};

void consider_group(const std::string& directory, const CgroupFiles& files, MemoryLimits& limits) {
  std::optional<uint64_t> limit;
  for (const char* name : files.limits) {
    if (name == nullptr) continue;
    const std::optional<uint64_t> value = read_number(directory + "/" + name);
    if (value && (!limit || *value < *limit)) limit = value;
  }
  // An unlimited v1 group shows the largest page-aligned number there is.
  if (!limit || *limit >= limits.total_bytes) return;
  const std::vector<std::string> stat = read_lines(directory + "/memory.stat");
  const uint64_t reclaimable = find_number(stat, files.inactive_file).value_or(0) +
                               find_number(stat, files.active_file).value_or(0);
  const uint64_t charged = read_number(directory + "/" + files.used).value_or(0);
  const uint64_t used = charged - std::min(charged, reclaimable);
  const auto left = [](uint64_t most, uint64_t taken) { return most - std::min(most, taken); };
  if (!limits.cgroup_limit_bytes ||
      left(*limit, used) < left(*limits.cgroup_limit_bytes, limits.cgroup_used_bytes)) {
    limits.cgroup_limit_bytes = limit;
    limits.cgroup_used_bytes = used;
  }
}

// From the process' group up to the hierarchy's root. Inside a container the mounted root often is
// the process' own group while /proc names it by its path on the host: directories that are not
// there have no files to read, and the walk ends at the root that is.
void consider_path(const std::string& mount, std::string group, const CgroupFiles& files,
                   MemoryLimits& limits) {
  if (group.find("..") != std::string::npos) group.clear();  // outside our namespace
  while (true) {
    consider_group(mount + group, files, limits);
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

// Lines of /proc/self/cgroup: "4:memory:/path" for v1 controllers, "0::/path" for v2.
void read_cgroups(const std::string& root, MemoryLimits& limits) {
  const std::string mount = root + "/sys/fs/cgroup";
  for (const std::string& line : read_lines(root + "/proc/self/cgroup")) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first, second - first + 1);
    controllers.front() = controllers.back() = ',';
    const std::string group = line.substr(second + 1);
    if (line.starts_with("0::")) {
      consider_path(mount, group, kVersion2, limits);
      consider_path(mount + "/unified", group, kVersion2, limits);  // where v1 and v2 live together
    } else if (controllers.find(",memory,") != std::string::npos) {
      consider_path(mount + "/memory", group, kVersion1, limits);
    }
  }
}

}  // namespace

uint64_t MemoryLimits::usable_bytes() const {
  if (!cgroup_limit_bytes) return available_bytes;
  const uint64_t left = *cgroup_limit_bytes - std::min(*cgroup_limit_bytes, cgroup_used_bytes);
  return std::min(available_bytes, left);
}

std::string MemoryLimits::text() const {
  const uint64_t usable = usable_bytes();
  if (!cgroup_limit_bytes || usable == available_bytes) return bytes_text(usable) + " available";
  return bytes_text(usable) + " left of the cgroup's " + bytes_text(*cgroup_limit_bytes) + " limit";
}

MemoryLimits memory_limits(const std::string& root) {
  const std::vector<std::string> meminfo = read_lines(root + "/proc/meminfo");
  MemoryLimits limits;
  limits.total_bytes = find_kilobytes(meminfo, "MemTotal:");
  limits.available_bytes = find_kilobytes(meminfo, "MemAvailable:");
  read_cgroups(root, limits);
  return limits;
}

uint64_t resident_bytes() { return find_kilobytes(read_lines("/proc/self/status"), "VmRSS:"); }

uint64_t peak_resident_bytes() { return find_kilobytes(read_lines("/proc/self/status"), "VmHWM:"); }

}  // namespace sluice
