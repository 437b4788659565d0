#include "tools/evaluate_options.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "io/error.h"
#include "tools/command_line.h"
#include "tools/engine_options.h"

namespace sluice {
namespace {

constexpr const char* kDescription =
    "Measures how well models predict texts: their perplexity, and how far they are from a\n"
    "reference. The table goes to standard output, everything else to standard error.\n";

constexpr const char* kNotes =
    "Perplexity is counted as llama.cpp's perplexity tool does, so that numbers compare: the text\n"
    "is cut into windows of --context tokens (default 512) without overlap; the first half of "
    "each\n"
    "is context alone, and of the rest every token but the window's first of it is scored\n"
    "(context - context/2 - 1 tokens); a token that the tokenizer puts before every text (BOS)\n"
    "takes the place of each window's first. Perplexity is exp of the mean negative "
    "log-likelihood\n"
    "of all scored tokens, and the figure behind +- its standard error. With --stride S windows\n"
    "begin S tokens apart and the last S tokens of each are scored; llama.cpp's --ppl-stride S\n"
    "means the same with a context that is S/2 longer than it is told. Special tokens that are\n"
    "written out in a text, such as <|endoftext|>, are read as such.\n"
    "\n"
    "Example:\n"
    "  stream-evaluate --reference ./bf16 --model 4bit=./tq4 --model 3bit=./tq3 \\\n"
    "      --file valid.txt --compute int16,f32 --cache-budget-gb 4 --json quality.json\n"
    "\n"
    "Exit status: 0 done, 1 error, 2 wrong usage, 130 interrupted (with what was measured so "
    "far).\n";

const std::vector<std::pair<std::string, Compute>> kComputes = {{"int16", Compute::int16},
                                                                {"f32", Compute::f32}};

std::string default_scratch() {
  const char* directory = std::getenv("TMPDIR");
  return directory != nullptr && *directory != '\0' ? directory : "/tmp";
}

void add_what_to_measure(CLI::App& app, EvaluateOptions& options) {
  const std::string group = "What to measure";
  app.add_option_function<std::vector<std::string>>(
         "--model",
         [&options](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) {
             try {
               options.models.push_back(parse_labelled_model(text));
             } catch (const Error& error) {
               throw CLI::ValidationError("--model", error.what());
             }
           }
         },
         "A model's directory, and its name in the table (may be given again)")
      ->type_name("[LABEL=]DIR")
      ->required()
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--file", options.files, "A text in UTF-8 (may be given again)")
      ->type_name("FILE")
      ->required()
      ->allow_extra_args(false)
      ->group(group);
  add_parsed(app, "--compute", "int16,f32", "One run of each model for each (default int16)",
             [&options](const std::string& text) { options.computes = parse_computes(text); })
      ->group(group);
  add_parsed(
      app, "--reference", "[LABEL=]DIR",
      "A model to compare the others with: KL divergence, agreement, worst token",
      [&options](const std::string& text) { options.reference = parse_labelled_model(text); })
      ->group(group);
  add_choice<Compute>(app, "--reference-compute", options.reference_compute, kComputes,
                      "How the reference computes (default f32)")
      ->group(group);
}

void add_windows(CLI::App& app, EvaluateOptions& options) {
  const std::string group = "Windows (change the figures)";
  app.get_option("--context")->group(group);
  add_number(app, "--stride", options.windows.stride, Range<uint64_t>{1, kMaxPositions},
             "Tokens from window to window, and scored of each (default: no overlap)")
      ->group(group);
  add_number(app, "--max-windows", options.windows.most, Range<uint64_t>{1, uint64_t{1} << 40},
             "Only the first windows of each text (default: all)")
      ->group(group);
}

void add_output(CLI::App& app, EvaluateOptions& options) {
  const std::string group = "Output";
  app.add_option("--json", options.json, "Write the results as JSON (docs/evaluate.md)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--scratch", options.scratch,
                 "Where the reference's logits are kept meanwhile (default $TMPDIR, or /tmp)")
      ->type_name("DIR")
      ->group(group);
}

}  // namespace

const char* compute_name(Compute compute) {
  for (const auto& [name, value] : kComputes) {
    if (value == compute) return name.c_str();
  }
  return "";
}

LabelledModel parse_labelled_model(const std::string& text) {
  std::error_code ignored;
  const size_t equals = text.find('=');
  LabelledModel model;
  if (equals != std::string::npos && !std::filesystem::exists(text, ignored)) {
    model = {text.substr(0, equals), text.substr(equals + 1)};
  } else {
    std::filesystem::path path = text;
    path = path.lexically_normal();
    if (!path.has_filename()) path = path.parent_path();  // "models/tq3/"
    model = {path.filename().string(), text};
  }
  if (model.label.empty() || model.directory.empty()) {
    throw Error("\"", text, "\": expected a model directory, or LABEL=DIRECTORY");
  }
  return model;
}

std::vector<Compute> parse_computes(const std::string& text) {
  std::vector<Compute> computes;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const auto known = std::ranges::find_if(
        kComputes, [&name](const auto& choice) { return choice.first == name; });
    if (known == kComputes.end() || std::ranges::find(computes, known->second) != computes.end()) {
      throw Error("\"", text, "\": expected int16, f32, or both with a comma between");
    }
    computes.push_back(known->second);
    begin = end + 1;
  }
  return computes;
}

ParsedEvaluateOptions parse_evaluate_options(std::vector<std::string> arguments) {
  CLI::App app(kDescription, "stream-evaluate");
  app.footer(kNotes);
  app.set_version_flag("--version", std::string("stream-evaluate ") + version());
  EvaluateOptions options;
  options.scratch = default_scratch();
  EngineOptions engine;
  add_engine_options(app, engine, "512");
  app.remove_option(app.get_option("--compute"));  // here a list
  // Several runs would write over one another, and none of them decodes.
  for (const char* name : {"--trace", "--trace-prefill"}) app.remove_option(app.get_option(name));
  add_what_to_measure(app, options);
  add_windows(app, options);
  add_output(app, options);
  const auto check_together = [&] {
    if (engine.model_options.context == 0) engine.model_options.context = WindowOptions().context;
    options.windows.context = engine.model_options.context;
    try {
      (void)Windows(options.windows.context, options.windows);
    } catch (const Error& error) {
      throw CLI::ValidationError("--context, --stride", error.what());
    }
  };
  if (auto end = parse_command_line(app, std::move(arguments), check_together)) {
    return {.options = std::nullopt, .text = end->text, .exit_status = end->exit_status};
  }
  options.model_options = engine.model_options;
  return {.options = std::move(options), .text = {}, .exit_status = 0};
}

}  // namespace sluice
