// Interrupt: Ctrl-C (SIGINT) and SIGTERM as a question that loops ask.
//
// The first signal is only noted, so that the token under way is finished and the summary printed;
// the second has its default effect and ends the process at once. Threads: any.
#pragma once

namespace sluice {

void catch_interrupts();
bool interrupted();

// What a shell reports of a process that Ctrl-C ended: 128 + SIGINT.
inline constexpr int kInterruptedExit = 130;

}  // namespace sluice
