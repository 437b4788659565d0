// stream-evaluate: perplexity of texts under one or more models whose experts stream from disk, and
// how far they are from a reference model.
//
//   stream-evaluate --model DIR --file TEXT [--reference DIR] [--compute int16,f32] ...
//
// The table goes to standard output, everything else to standard error.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "tools/evaluate_options.h"
#include "tools/evaluate_report.h"
#include "tools/evaluation.h"
#include "tools/interrupt.h"
#include "tools/output.h"

namespace sluice {
namespace {

int run(const EvaluateOptions& options) {
  // Made now, so that a path that cannot be written ends the run before it has taken hours.
  std::optional<AtomicFile> json;
  if (!options.json.empty()) json.emplace(options.json);
  catch_interrupts();
  Evaluation evaluation(
      options,
      {.should_stop = interrupted,
       .say = [](const std::string& line) { std::fputs(line.c_str(), stderr); },
       .result = [](const EvaluationResult& r) { std::fputs(result_line(r).c_str(), stderr); }});
  evaluation.run();
  Output standard_output(STDOUT_FILENO);
  standard_output.write(results_table(evaluation.results()));
  if (json) {
    const std::string text = results_json(options, evaluation.results(), evaluation.stopped());
    json->write(std::as_bytes(std::span(text)));
    json->commit();
  }
  if (!evaluation.stopped()) return 0;
  std::fputs("interrupted: the last figures are of the windows that were complete\n", stderr);
  return kInterruptedExit;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    const sluice::ParsedEvaluateOptions parsed =
        sluice::parse_evaluate_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.options) {
      std::fputs(parsed.text.c_str(), parsed.exit_status == 0 ? stdout : stderr);
      return parsed.exit_status;
    }
    return sluice::run(*parsed.options);
  } catch (const std::bad_alloc&) {
    std::fputs("stream-evaluate: out of memory; lower --cache-budget-gb or --context\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-evaluate: %s\n", error.what());
  }
  return 1;
}
