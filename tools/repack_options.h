// The command line of stream-repack. Threads: one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/repack.h"
#include "tools/command_line.h"

namespace sluice {

struct ParsedRepack {
  std::optional<RepackOptions> options;
  CommandLineEnd end;  // without options: what to print and to exit with
};
// arguments: without the program's name.
ParsedRepack parse_repack_options(std::vector<std::string> arguments);

}  // namespace sluice
