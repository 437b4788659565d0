#include "model/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/plan.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr uint64_t kGigabyte = 1'000'000'000;

// A directory with the kernel's files as some machine shows them.
class Machine : public testing::Test {
 protected:
  Machine() : root_(testing::TempDir() + "sluice_machine_" + std::to_string(::getpid())) {
    std::filesystem::remove_all(root_);
    write("proc/meminfo",
          "MemTotal:       16000000 kB\nMemFree:         100000 kB\n"
          "MemAvailable:    8000000 kB\nBuffers:          5000 kB\n");
  }
  ~Machine() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  MemoryLimits limits() const { return memory_limits(root_.string()); }

  std::filesystem::path root_;
};

TEST_F(Machine, WithoutCgroupsIsLimitedByWhatIsAvailable) {
  const MemoryLimits found = limits();
  EXPECT_EQ(found.total_bytes, uint64_t{16'000'000} * 1024);
  EXPECT_EQ(found.available_bytes, uint64_t{8'000'000} * 1024);
  EXPECT_FALSE(found.cgroup_limit_bytes.has_value());
  EXPECT_EQ(found.usable_bytes(), found.available_bytes);
  EXPECT_THAT(found.text(), HasSubstr("8.19 GB available"));
}

TEST_F(Machine, WithCgroup2SubtractsWhatIsUsedButNotPageCache) {
  write("proc/self/cgroup", "0::/user/run\n");
  write("sys/fs/cgroup/user/run/memory.max", "4000000000\n");
  write("sys/fs/cgroup/user/run/memory.current", "1800000000\n");
  write("sys/fs/cgroup/user/run/memory.stat",
        "anon 900000000\nfile 900000000\ninactive_file_of_no_matter 5\n"
        "inactive_file 600000000\nactive_file 200000000\n");
  const MemoryLimits found = limits();
  EXPECT_EQ(found.cgroup_limit_bytes, 4 * kGigabyte);
  EXPECT_EQ(found.cgroup_used_bytes, kGigabyte);
  EXPECT_EQ(found.usable_bytes(), 3 * kGigabyte);
  EXPECT_THAT(found.text(), HasSubstr("3.00 GB left of the cgroup's 4.00 GB limit"));
}

TEST_F(Machine, WithCgroup2TakesTheTightestGroupOnThePath) {
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/b/c/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.max", "3000000000\n");
  write("sys/fs/cgroup/a/b/memory.current", "100\n");
  write("sys/fs/cgroup/a/memory.max", "5000000000\n");
  write("sys/fs/cgroup/a/memory.current", "4000000000\n");
  EXPECT_EQ(limits().cgroup_limit_bytes, 5 * kGigabyte);  // one of 5 GB is left, of 3 GB almost all
  EXPECT_EQ(limits().usable_bytes(), kGigabyte);
}

TEST_F(Machine, WithCgroup2HonoursTheThrottlingLimit) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "5000000000\n");
  write("sys/fs/cgroup/a/memory.high", "2000000000\n");
  EXPECT_EQ(limits().usable_bytes(), 2 * kGigabyte);
}

TEST_F(Machine, InAContainerFindsItsLimitAtTheMountedRoot) {
  write("proc/self/cgroup", "0::/docker/0123abcd\n");
  write("sys/fs/cgroup/memory.max", "2000000000\n");
  write("sys/fs/cgroup/memory.current", "500000000\n");
  EXPECT_EQ(limits().usable_bytes(), 3 * kGigabyte / 2);
}

TEST_F(Machine, OutsideItsCgroupNamespaceUsesTheMountedRoot) {
  write("proc/self/cgroup", "0::/../../elsewhere\n");
  write("sys/fs/cgroup/memory.max", "2000000000\n");
  EXPECT_EQ(limits().usable_bytes(), 2 * kGigabyte);
}

TEST_F(Machine, WithCgroup1ReadsTheMemoryController) {
  write("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/jobs/7\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "2000000000\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "900000000\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.stat",
        "cache 1\ninactive_file 77\ntotal_inactive_file 300000000\ntotal_active_file 100000000\n");
  const MemoryLimits found = limits();
  EXPECT_EQ(found.cgroup_limit_bytes, 2 * kGigabyte);
  EXPECT_EQ(found.cgroup_used_bytes, kGigabyte / 2);
}

TEST_F(Machine, WithBothGenerationsReadsTheUnifiedMount) {
  write("proc/self/cgroup", "4:cpu:/x\n0::/y\n");
  write("sys/fs/cgroup/unified/y/memory.max", "1000000000\n");
  EXPECT_EQ(limits().usable_bytes(), kGigabyte);
}

TEST_F(Machine, IgnoresALimitAboveItsMemory) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "99000000000000\n");
  EXPECT_FALSE(limits().cgroup_limit_bytes.has_value());
}

TEST_F(Machine, IsLimitedByAvailableMemoryBelowTheCgroupsRest) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "10000000000\n");
  EXPECT_EQ(limits().usable_bytes(), uint64_t{8'000'000} * 1024);
  EXPECT_THAT(limits().text(), HasSubstr("8.19 GB available"));
}

TEST_F(Machine, HasNothingLeftWhenTheGroupIsOverItsLimit) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/memory.max", "1000000000\n");
  write("sys/fs/cgroup/a/memory.current", "1000500000\n");
  EXPECT_EQ(limits().usable_bytes(), 0u);
}

TEST_F(Machine, SurvivesFilesThatAreNotAsExpected) {
  write("proc/meminfo", "MemTotal:\nMemAvailable: many kB\nMem");
  write("proc/self/cgroup", "\n0\n0:\n0::\n:::\nmemory\n7:memory\n");
  write("sys/fs/cgroup/memory.max", "-5\n");
  const MemoryLimits found = limits();
  EXPECT_EQ(found.total_bytes, 0u);
  EXPECT_EQ(found.usable_bytes(), 0u);
}

TEST(Resident, CountsMemoryThatWasTouched) {
  constexpr size_t kTouched = 64 << 20;
  const uint64_t before = resident_bytes();
  ASSERT_GT(before, 0u);
  {
    std::vector<char> memory(kTouched);
    std::memset(memory.data(), 1, memory.size());
    EXPECT_GT(resident_bytes(), before + kTouched / 2);
  }
  EXPECT_GT(peak_resident_bytes(), before + kTouched / 2);
}

TEST(Budget, IsANumberOfGigabytesOrAWord) {
  EXPECT_EQ(parse_budget("auto").kind, BudgetRequest::Kind::automatic);
  EXPECT_EQ(parse_budget("all").kind, BudgetRequest::Kind::all);
  const BudgetRequest half = parse_budget("0.5");
  EXPECT_EQ(half.kind, BudgetRequest::Kind::fixed);
  EXPECT_EQ(half.bytes, kGigabyte / 2);
  EXPECT_EQ(parse_budget("12").bytes, 12 * kGigabyte);
  EXPECT_EQ(parse_budget("0.0051").bytes, 5'100'000u);
}

TEST(Budget, RefusesEverythingElse) {
  for (const char* text :
       {"", "0", "-1", "nan", "inf", "1GB", "1 ", " 1", "0x10", "1e30", "ALL", "1,5", "."}) {
    EXPECT_THROW(parse_budget(text), Error) << text;
  }
}

}  // namespace
}  // namespace sluice
