// EvaluateOptions: the command line of stream-evaluate.
// Threads: one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/perplexity.h"
#include "model/session.h"
#include "tools/program.h"

namespace sluice {

struct LabelledModel {
  std::string label;
  std::string directory;
};

struct EvaluateOptions {
  std::vector<LabelledModel> models;  // at least one
  std::optional<LabelledModel> reference;
  Compute reference_compute = Compute::f32;
  std::vector<std::string> files;  // of text; at least one
  std::vector<Compute> computes = {Compute::int16};
  WindowOptions windows;
  // context: of a window. compute: for each run from computes.
  ModelOptions model_options;
  std::string scratch;  // directory for the reference's logits
  std::string json;     // empty: none
};

// What the command line came to: options to run with, or a text to print and a status to exit with.
struct ParsedEvaluateOptions {
  std::optional<EvaluateOptions> options;
  std::string text;
  int exit_status = 0;  // 0, or kUsageExit
};

// arguments: without the program's name.
ParsedEvaluateOptions parse_evaluate_options(std::vector<std::string> arguments);

// "LABEL=DIR", or "DIR" with its last component for a label. A directory that exists may have '='
// in its name. Throws Error: empty parts.
LabelledModel parse_labelled_model(const std::string& text);

// "int16,f32". Throws Error: empty, unknown or given twice.
std::vector<Compute> parse_computes(const std::string& text);

const char* compute_name(Compute compute);

}  // namespace sluice
