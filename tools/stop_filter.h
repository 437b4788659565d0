// StopFilter: cuts generated text at the first stop string, however the text is split into pieces.
//
// Text that could still turn out to be the beginning of a stop string is held back, so nothing of a
// stop string is ever passed on. The stop string that is complete first wins; of several that end
// at the same byte, the longest. Threads: one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class StopFilter {
 public:
  // Requires: no stop string is empty.
  explicit StopFilter(std::vector<std::string> stops);

  // Takes the next piece and returns the text that has become certain. After a stop string was seen
  // (stopped()), everything that follows is dropped.
  std::string push(std::string_view text);
  // The end of the text: what was held back and is no stop string after all.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  size_t held_bytes() const;

  std::vector<std::string> stops_;
  std::string
      pending_;  // not passed on yet: the longest end of the text that may begin a stop string
  bool stopped_ = false;
};

}  // namespace sluice
