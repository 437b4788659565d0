// Error: the world's fault (a file, the kernel, memory, a checkpoint), told to the user.
//
// The message says what, where (file, offset, tensor, layer, expert), what was expected, and what
// to do. Thrown from any folder above kernels/, caught once in each program's main. Errors of
// asynchronous reads are values (io/read_queue.h); nothing throws across a thread or a callback.
#pragma once

#include <array>
#include <concepts>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sluice {

class Error : public std::runtime_error {
 public:
  // Error("model/x.safetensors: tensor ", name, " ends at ", end, ", past the file's ", size, "
  // bytes"). Text, integers and numbers, which have six digits.
  template <class... Parts>
  explicit Error(const Parts&... parts) : std::runtime_error(join({Part(parts)...})) {}

 private:
  // Messages are put together in hundreds of places, so as little of it as can be is a template.
  class Part {
   public:
    explicit Part(std::string_view text) : text_(text) {}
    explicit Part(const std::string& text) : text_(text) {}
    explicit Part(const char* text) : text_(text) {}
    explicit Part(long long number);
    explicit Part(unsigned long long number);
    explicit Part(double number);
    template <std::signed_integral T>
    explicit Part(T number) : Part(static_cast<long long>(number)) {}
    template <std::unsigned_integral T>
    explicit Part(T number) : Part(static_cast<unsigned long long>(number)) {}
    // Whether a letter or a number is meant, the text has to say.
    explicit Part(char) = delete;
    explicit Part(signed char) = delete;
    explicit Part(unsigned char) = delete;
    explicit Part(bool) = delete;
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

    std::string_view text() const { return text_; }

   private:
    std::array<char, 32> digits_;
    std::string_view text_;  // of the caller, or in digits_
  };

  static std::string join(std::initializer_list<Part> parts);
};

// "Permission denied (errno 13)". Thread-safe.
std::string errno_text(int error);

// "text", with a backslash before each quote and backslash of it.
std::string in_quotes(std::string_view text);

// Text from a file as a message may show it: its first 160 bytes, control characters escaped.
std::string excerpt(std::string_view text);

}  // namespace sluice
