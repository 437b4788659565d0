#include "tools/convert_options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "model/workers.h"

namespace sluice {

namespace {

constexpr const char* kDescription =
    "Rewrites a published checkpoint as TurboQuant, in the layout that streams best.\n"
    "--out appears when it is complete. What was killed goes on when asked for the same again;\n"
    "the bytes depend on the source and the settings alone.\n";

constexpr const char* kExamples =
    "Examples:\n"
    "  stream-convert --model ./Qwen3-30B-A3B --out ./Qwen3-30B-A3B-tq3 --bits 3\n"
    "  stream-convert --model ./Qwen3-30B-A3B --out ./mixed --bits 4 --expert-bits 3 \\\n"
    "      --expert-down-bits 2 --verify --report mixed.json\n"
    "\n"
    "Exit status: 0 done, 1 error, 2 wrong usage, 130 interrupted (can be resumed).\n";

constexpr double kGigabyte = 1e9;

CLI::Validator bits_validator() {
  return CLI::IsMember({2, 3, 4, 8, 16}).description("2|3|4|8|16");
}

}  // namespace

ConvertCommand parse_convert_command(int argc, char** argv) {
  ConvertCommand command;
  ConvertOptions& options = command.options;
  ConvertSettings& settings = options.settings;
  double memory_gb = 2;
  double shard_gb = static_cast<double>(settings.shard_bytes) / kGigabyte;
  std::string model;
  std::string out;

  CLI::App app(kDescription);
  app.footer(kExamples);
  app.get_formatter()->column_width(34);
  app.add_option("--model", model, "Directory of the checkpoint to read")
      ->type_name("DIR")
      ->required();
  app.add_option("--out", out, "Directory to write; must not exist")->type_name("DIR")->required();
  app.add_option("--bits", settings.bits, "Bits of a weight; 16: as stored (default 3)")
      ->check(bits_validator())
      ->type_name("");
  app.add_option("--attn-bits", settings.attn_bits, "... in attention (default: --bits)")
      ->check(bits_validator())
      ->type_name("");
  app.add_option("--expert-bits", settings.expert_bits, "... of routed experts (default: --bits)")
      ->check(bits_validator())
      ->type_name("");
  app.add_option("--expert-down-bits", settings.expert_down_bits,
                 "... of their down projections (default: --expert-bits)")
      ->check(bits_validator())
      ->type_name("");
  app.add_option("--group-size", settings.group, "Weights that share a scale (default 64)")
      ->check(CLI::IsMember({32, 64, 128}).description("32|64|128"))
      ->type_name("");
  app.add_option("--layout", settings.layout,
                 "Experts as one record each (default), or stacked as MLX has them")
      ->transform(CLI::CheckedTransformer(
                      std::map<std::string, ConvertLayout>{{"records", ConvertLayout::records},
                                                           {"mlx", ConvertLayout::mlx}})
                      .description("records|mlx"))
      ->type_name("");
  app.add_flag("--keep-head", settings.keep_head, "Leave lm_head as stored");
  app.add_option("--shard-gb", shard_gb,
                 "Size of the files, and of what a kill can cost (default 1.07)")
      ->check(CLI::Range(0.0001, 1e6).description("N"))
      ->type_name("");
  app.add_option("--threads", options.threads, "Threads that encode (default: all cores)")
      ->check(CLI::Range(1, 1024).description("N"))
      ->type_name("");
  app.add_option("--memory-gb", memory_gb, "Resident memory at most (default 2)")
      ->check(CLI::Range(0.01, 1e6).description("N"))
      ->type_name("");
  app.add_flag("--verify", options.verify, "Read every record back and check its checksum");
  app.add_option("--report", command.report, "Write the errors of all matrices as JSON")
      ->type_name("FILE");
  app.set_version_flag("--version", std::string(SLUICE_VERSION));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    command.exit_status = app.exit(error) == 0 ? 0 : 2;
    return command;
  }
  options.model = model;
  options.out = out;
  options.memory_bytes = static_cast<uint64_t>(memory_gb * kGigabyte);
  settings.shard_bytes = static_cast<uint64_t>(shard_gb * kGigabyte);
  options.program = "stream-convert " SLUICE_VERSION;
  return command;
}

}  // namespace sluice
