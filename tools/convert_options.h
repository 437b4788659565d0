// ConvertCommand: the command line of stream-convert.
#pragma once

#include <optional>
#include <string>

#include "model/converter.h"

namespace sluice {

struct ConvertCommand {
  ConvertOptions options;
  std::string report;              // a file for the report as JSON; empty: none
  std::optional<int> exit_status;  // --help, or wrong usage: said already
};

ConvertCommand parse_convert_command(int argc, char** argv);

}  // namespace sluice
