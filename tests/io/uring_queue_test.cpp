// What the io_uring back end does when the kernel refuses: played by a seccomp filter that fails
// one system call, in a child process, because a filter cannot be taken back.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/read_queue.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

// How the child ends.
constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kNoSeccomp = 77;

// From here on the system call fails with the errno. False if the machine does not allow filters.
bool refuse(uint32_t system_call, uint32_t error) {
  std::array<sock_filter, 4> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Runs the body in a child where the system call is refused; returns how it ended.
int child_without(uint32_t system_call, uint32_t error, const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!refuse(system_call, error)) ::_exit(kNoSeccomp);
    try {
      ::_exit(body() ? kPassed : kFailed);
    } catch (...) {
      ::_exit(kFailed);
    }
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return kFailed;
  return WEXITSTATUS(status);
}

TEST(UringQueue, AutomaticFallsBackToPreadAndSaysWhyWhereRingsAreForbidden) {
  const int exit = child_without(__NR_io_uring_setup, EPERM, [] {
    std::string reason;
    const auto queue = make_read_queue(ReadBackend::automatic, 2, &reason);
    return queue->description() == "pread ×2" && reason.find("forbidden") != std::string::npos;
  });
  if (exit == kNoSeccomp) GTEST_SKIP() << "this machine allows no seccomp filters";
  EXPECT_EQ(exit, kPassed);
}

TEST(UringQueue, AskedForByNameItIsAnErrorWhereRingsAreForbidden) {
  const int exit = child_without(__NR_io_uring_setup, ENOSYS, [] {
    try {
      make_read_queue(ReadBackend::io_uring, 2);
    } catch (const Error& error) {
      return std::string(error.what()).find("no io_uring") != std::string::npos;
    }
    return false;
  });
  if (exit == kNoSeccomp) GTEST_SKIP() << "this machine allows no seccomp filters";
  EXPECT_EQ(exit, kPassed);
}

TEST(UringQueue, AKernelThatTakesNoReadsForASecondIsAResultAndNotAHang) {
  std::string reason;
  if (make_read_queue(ReadBackend::automatic, 1, &reason)->description() != "io_uring") {
    GTEST_SKIP() << "no io_uring here: " << reason;
  }
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string(100'000, 'x')), false);
  std::vector<std::byte> memory(100'000);
  const int exit = child_without(__NR_io_uring_enter, EAGAIN, [&] {
    const auto queue = make_read_queue(ReadBackend::io_uring, 1);
    std::array<ReadRequest, 2> requests;
    for (uint64_t tag = 0; tag < requests.size(); ++tag) {
      requests[tag] = {.file = &file,
                       .size_bytes = 50'000,
                       .needed_bytes = 50'000,
                       .destination = memory.data() + 50'000 * tag,
                       .tag = tag};
    }
    queue->submit(requests);
    queue->cancel(1);
    std::array<ReadResult, 2> results;
    size_t count = 0;
    while (count < 2) count += queue->wait(std::span(results).subspan(count));
    return results[0].tag == 1 && results[0].error == ReadResult::kCancelled &&
           results[1].tag == 0 && results[1].error == EAGAIN && queue->in_flight() == 0;
  });
  if (exit == kNoSeccomp) GTEST_SKIP() << "this machine allows no seccomp filters";
  EXPECT_EQ(exit, kPassed);
}

}  // namespace
}  // namespace sluice
