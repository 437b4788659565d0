// What all programs have in common: a version and the exit status of wrong usage.
#pragma once

namespace sluice {

inline constexpr int kUsageExit = 2;

// "0.1.0"
const char* version();

}  // namespace sluice
