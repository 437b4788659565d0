#include "tools/command_line.h"

namespace sluice {
namespace {

// CLI11 sets groups apart by two empty lines; one is enough.
std::string help_text(const CLI::App& app) {
  std::string text = app.help();
  for (size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
  return text;
}

}  // namespace

const char* version() { return SLUICE_VERSION; }

std::optional<CommandLineEnd> parse_command_line(CLI::App& app, std::vector<std::string> arguments,
                                                 const std::function<void()>& check_together) {
  std::ranges::reverse(arguments);  // as CLI11 wants a vector: last argument first
  try {
    app.parse(std::move(arguments));
    if (check_together) check_together();
  } catch (const CLI::CallForHelp&) {
    return CommandLineEnd{.text = help_text(app), .exit_status = 0};
  } catch (const CLI::CallForVersion& call) {
    return CommandLineEnd{.text = std::string(call.what()) + "\n", .exit_status = 0};
  } catch (const CLI::ParseError& error) {
    return CommandLineEnd{
        .text = app.get_name() + ": " + error.what() + "\nTry " + app.get_name() + " --help.\n",
        .exit_status = kUsageExit};
  }
  return std::nullopt;
}

}  // namespace sluice
