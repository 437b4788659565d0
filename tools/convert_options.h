// The command line of stream-convert.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/converter.h"
#include "tools/command_line.h"

namespace sluice {

struct ConvertCommand {
  ConvertOptions options;
  std::optional<std::string> report;  // a file for the report as JSON
};

// Either a command, or what ends the program.
struct ParsedConvert {
  std::optional<ConvertCommand> command;
  CommandLineEnd end;
};

// arguments: without the program's name.
ParsedConvert parse_convert_options(std::vector<std::string> arguments);

}  // namespace sluice
