// Error: the world's fault (a file, the kernel, memory, a checkpoint), told to the user.
//
// The message says what, where (file, offset, tensor, layer, expert), what was expected, and what
// to do. Thrown from any folder above kernels/, caught once in each program's main. Errors of
// asynchronous reads are values (io/read_queue.h); nothing throws across a thread or a callback.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

class Error : public std::runtime_error {
 public:
  // Error("model/x.safetensors: tensor ", name, " ends at ", end, ", past the file's ", size, "
  // bytes")
  template <class... Parts>
  explicit Error(const Parts&... parts) : std::runtime_error(join(parts...)) {}

 private:
  template <class... Parts>
  static std::string join(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    return std::move(text).str();
  }
};

// "Permission denied (errno 13)". Thread-safe.
std::string errno_text(int error);

// Text from a file as a message may show it: its first 160 bytes, control characters escaped.
std::string excerpt(std::string_view text);

}  // namespace sluice
