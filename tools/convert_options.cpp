#include "tools/convert_options.h"

#include <utility>

#include "tools/program.h"

namespace sluice {

namespace {

constexpr const char* kDescription =
    "Rewrites a published checkpoint as TurboQuant, in the layout that streams best.\n"
    "--out appears when it is complete; a conversion that was killed goes on when asked for the\n"
    "same again. The bytes depend on the source and the settings alone.";

constexpr const char* kExamples =
    "Examples:\n"
    "  stream-convert --model ./Qwen3-30B-A3B --out ./Qwen3-30B-A3B-tq3 --bits 3\n"
    "  stream-convert --model ./Qwen3-30B-A3B --out ./mixed --bits 4 --expert-bits 3 \\\n"
    "      --expert-down-bits 2 --verify --report mixed.json\n"
    "\n"
    "Exit status: 0 done, 1 error, 2 wrong usage, 130 interrupted (can be resumed).\n";

constexpr uint32_t kMostThreads = 1024;
constexpr double kGigabyte = 1e9;
constexpr Range<double> kGigabytes = {0.00001, 1e6};

// target: a number or an optional one.
template <class Target>
void add_bits(CLI::App& app, const std::string& name, Target& target,
              const std::string& description) {
  std::vector<std::pair<std::string, uint32_t>> choices;
  for (const uint32_t bits : {2u, 3u, 4u, 8u, kStoredBits}) {
    choices.emplace_back(std::to_string(bits), bits);
  }
  std::vector<std::pair<std::string, Target>> typed(choices.begin(), choices.end());
  add_choice(app, name, target, std::move(typed), description)->group("What is written");
}

void add_settings(CLI::App& app, ConvertSettings& settings) {
  const std::string group = "What is written";
  add_bits(app, "--bits", settings.bits, "Bits of a weight; 16: as stored (default: 3)");
  add_bits(app, "--attn-bits", settings.attn_bits,
           "Those of attention (default: 4 beside 2 and 3, 8 beside 4)");
  add_bits(app, "--expert-bits", settings.expert_bits, "Those of routed experts (default: --bits)");
  add_bits(app, "--expert-down-bits", settings.expert_down_bits,
           "Those of their down projections (default: --expert-bits)");
  add_choice<uint32_t>(app, "--group-size", settings.group, {{"32", 32}, {"64", 64}, {"128", 128}},
                       "Weights that share a scale (default: 64)")
      ->group(group);
  add_choice<ConvertLayout>(
      app, "--layout", settings.layout,
      {{"records", ConvertLayout::records}, {"mlx", ConvertLayout::mlx}},
      "Experts as one aligned record each (default), or stacked as MLX has them")
      ->group(group);
  app.add_flag("--keep-head", settings.keep_head, "Leave lm_head as stored")->group(group);
}

}  // namespace

ParsedConvert parse_convert_options(std::vector<std::string> arguments) {
  ConvertCommand command;
  ConvertOptions& options = command.options;
  std::string model;
  std::string out;
  double memory_gigabytes = static_cast<double>(options.memory_bytes) / kGigabyte;
  double shard_gigabytes = static_cast<double>(options.settings.shard_bytes) / kGigabyte;

  CLI::App app(kDescription, "stream-convert");
  app.footer(kExamples);
  app.set_version_flag("--version", "stream-convert " + std::string(version()));
  app.add_option("--model", model, "Directory of the checkpoint to read")
      ->required()
      ->type_name("DIR");
  app.add_option("--out", out, "Directory to write; must not exist")->required()->type_name("DIR");
  add_settings(app, options.settings);
  add_number(app, "--shard-gb", shard_gigabytes, kGigabytes,
             "Size of the files, and of what a kill can cost (default: 1)");
  add_number(app, "--threads", options.threads, Range<uint32_t>{1, kMostThreads},
             "Threads that encode (default: as many as this process may run on)");
  add_number(app, "--memory-gb", memory_gigabytes, kGigabytes,
             "Memory to stay within (default: 2)");
  app.add_flag("--verify", options.verify, "Read every record back and check its checksum");
  add_text(app, "--report", command.report, "FILE", "Write the errors of all matrices as JSON");
  if (const auto end = parse_command_line(app, std::move(arguments))) return {{}, *end};
  if (options.verify && options.settings.layout == ConvertLayout::mlx) {
    return {{},
            {.text = "stream-convert: --verify checks records, and --layout mlx has none\n",
             .exit_status = kUsageExit}};
  }
  options.model = model;
  options.out = out;
  options.memory_bytes = static_cast<uint64_t>(memory_gigabytes * kGigabyte);
  options.settings.shard_bytes = static_cast<uint64_t>(shard_gigabytes * kGigabyte);
  options.program = "stream-convert " + std::string(version());
  return {std::move(command), {}};
}

}  // namespace sluice
