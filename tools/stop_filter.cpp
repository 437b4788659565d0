#include "tools/stop_filter.h"

#include <algorithm>
#include <utility>

#include "io/check.h"

namespace sluice {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) SLUICE_CHECK(!stop.empty());
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return {};
  pending_ += text;
  size_t first_end = std::string::npos;
  size_t begin = 0;
  for (const std::string& stop : stops_) {
    const size_t place = pending_.find(stop);
    if (place == std::string::npos) continue;
    const size_t end = place + stop.size();
    if (end < first_end || (end == first_end && place < begin)) {
      first_end = end;
      begin = place;
    }
  }
  stopped_ = first_end != std::string::npos;
  const size_t certain = stopped_ ? begin : pending_.size() - held_bytes();
  std::string passed = pending_.substr(0, certain);
  pending_.erase(0, stopped_ ? std::string::npos : certain);
  return passed;
}

std::string StopFilter::finish() { return std::exchange(pending_, {}); }

// The length of the longest end of pending_ that begins some stop string.
size_t StopFilter::held_bytes() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(stop.size() - 1, pending_.size()); size > held; --size) {
      if (pending_.ends_with(std::string_view(stop).substr(0, size))) held = size;
    }
  }
  return held;
}

}  // namespace sluice
