#include <charconv>
#include <cmath>

#include "io/error.h"
#include "model/plan.h"

namespace sluice {

BudgetRequest parse_budget(const std::string& text) {
  if (text == "auto") return {.kind = BudgetRequest::Kind::automatic};
  if (text == "all") return {.kind = BudgetRequest::Kind::all};
  constexpr double kBytesPerGigabyte = 1e9;
  constexpr double kMostGigabytes = 1e9;  // 10^18 bytes still fit 64 bits with room for sums
  double gigabytes = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, gigabytes);
  const bool number = error == std::errc() && rest == end && std::isfinite(gigabytes);
  if (!number || gigabytes <= 0 || gigabytes > kMostGigabytes) {
    throw Error("cache budget \"", text, "\": expected a number of GB (10^9 bytes) above 0, such ",
                "as 0.5, or auto, or all");
  }
  return {.kind = BudgetRequest::Kind::fixed,
          .bytes = static_cast<uint64_t>(std::llround(gigabytes * kBytesPerGigabyte))};
}

}  // namespace sluice
