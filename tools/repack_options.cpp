#include "tools/repack_options.h"

#include <utility>

namespace sluice {
namespace {

constexpr double kMostGigabytes = 1e6;
constexpr uint32_t kMostThreads = 1024;

}  // namespace

ParsedRepack parse_repack_options(std::vector<std::string> arguments) {
  RepackOptions options;
  std::string model;
  std::string out;
  double memory_gigabytes = static_cast<double>(options.memory_bytes) / 1e9;
  CLI::App app(
      "Rewrites a model's experts as records, one aligned read each, without changing a weight.\n"
      "Everything else is copied as it is.",
      "stream-repack");
  app.set_version_flag("--version", "stream-repack " + std::string(version()));
  app.add_option("--model", model, "Model directory to read")->required()->type_name("DIR");
  app.add_option("--out", out, "Model directory to write; must not exist")
      ->required()
      ->type_name("DIR");
  add_parsed(app, "--perm", "FILE",
             "Relabel the experts in the order of this perm.json (stream-calibrate analyze)",
             [&](const std::string& text) { options.permutation = text; });
  app.add_flag("--verify", options.verify,
               "Read everything back from the disk and compare it with the source");
  add_number(app, "--threads", options.threads, Range<uint32_t>{1, kMostThreads},
             "Threads (default: as many as this process may run on)");
  add_number(app, "--memory-gb", memory_gigabytes, Range<double>{0.001, kMostGigabytes},
             "Memory to stay within (default: 2)");
  if (const auto end = parse_command_line(app, std::move(arguments))) return {{}, *end};
  options.model = model;
  options.out = out;
  options.memory_bytes = static_cast<uint64_t>(memory_gigabytes * 1e9);
  return {std::move(options), {}};
}

}  // namespace sluice
