#include "tools/output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "io/error.h"

namespace sluice {

Output::Output(int descriptor) : descriptor_(descriptor), terminal_(isatty(descriptor) == 1) {
  std::signal(SIGPIPE, SIG_IGN);
}

Output::~Output() { end_line(); }

void Output::write(std::string_view text) {
  if (text.empty() || closed_) return;
  line_open_ = text.back() != '\n';
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    switch (errno) {
      case EINTR:  // a signal that was handled; the next write goes on
        break;
      case EAGAIN: {  // a non-blocking pipe, full: wait for the reader
        pollfd writable = {.fd = descriptor_, .events = POLLOUT, .revents = 0};
        ::poll(&writable, 1, -1);
        break;
      }
      case EPIPE:  // the reader is gone, as in `stream-generate ... | head`
        closed_ = true;
        return;
      default:  // ENOSPC, EIO, EBADF: the text cannot be delivered
        throw Error("standard output cannot be written: ", errno_text(errno));
    }
  }
}

void Output::end_line() {
  if (terminal_ && line_open_ && !closed_) std::fputc('\n', stderr);
  line_open_ = false;
}

}  // namespace sluice
