// Output: standard output as the programs write it: at once, whole, and aware of a reader that
// left. Owns: nothing. Threads: one.
#pragma once

#include <string_view>

namespace sluice {

class Output {
 public:
  // descriptor: borrowed. From here on this process ignores SIGPIPE.
  explicit Output(int descriptor);
  // On a terminal, ends the line that the text left open (on standard error: the text itself gets
  // no byte that was not generated).
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // Writes all of text. Does nothing once closed(). Throws Error (disk full and the like).
  void write(std::string_view text);
  // The reader is gone (EPIPE): there is nobody to write to, which is no error.
  bool closed() const { return closed_; }
  // Ends the open line now, before something else is written to the terminal.
  void end_line();

 private:
  int descriptor_;
  bool terminal_;
  bool line_open_ = false;
  bool closed_ = false;
};

}  // namespace sluice
