// What stream-evaluate says of its results: a table for people, JSON for programs
// (docs/evaluate.md). Threads: any.
#pragma once

#include <span>
#include <string>

#include "tools/evaluate_options.h"
#include "tools/evaluation.h"

namespace sluice {

// "bf16 f32 valid.txt: perplexity 34.120 +- 0.310 (488 windows, 812 tok/s)", with its newline.
std::string result_line(const EvaluationResult& result);
// A table of all, and under it each model's worst token. Empty without results.
std::string results_table(std::span<const EvaluationResult> results);
// Pretty-printed, ended with a newline.
std::string results_json(const EvaluateOptions& options, std::span<const EvaluationResult> results,
                         bool interrupted);

}  // namespace sluice
