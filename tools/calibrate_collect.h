// stream-calibrate collect: runs prompts through a model and records the routing of what it
// generates.
//
// Each prompt's trace is kept in a folder beside the result ("<out>.parts") until all are there,
// so that a run that was killed goes on with the next prompt when it is started again. Sampling is
// seeded by the prompt's number: a trace depends on model, prompts and --tokens alone.
// Threads: one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/calibrate_options.h"

namespace sluice {

// The built-in prompts: prose, dialogue, code, mathematics, facts, lists, other languages.
std::vector<std::string> built_in_prompts();

// A prompt a line; a line that begins with { is JSON with the text under "prompt". Empty lines are
// passed over. Throws Error naming path and line: not UTF-8, not JSON, no prompt at all.
std::vector<std::string> parse_prompts(std::string_view text, const std::string& path);

// Returns the process's exit status. Throws Error: anything wrong with the model, the prompts, or
// what is at --out already.
int collect(const CalibrateOptions& options);

}  // namespace sluice
