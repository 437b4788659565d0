// stream-plan: what running a model takes, from its headers alone, and whether this machine can.
//
//   stream-plan --model DIR [--memory-gb N] [--cache-budget-gb N] [--hit-rate R] ...
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tools/output.h"
#include "tools/plan_options.h"
#include "tools/plan_report.h"

int main(int argc, char** argv) {
  try {
    const sluice::ParsedPlanOptions parsed =
        sluice::parse_plan_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.options) {
      std::fputs(parsed.text.c_str(), parsed.exit_status == 0 ? stdout : stderr);
      return parsed.exit_status;
    }
    const sluice::PlanReport report = sluice::make_plan_report(*parsed.options);
    sluice::Output(STDOUT_FILENO)
        .write(parsed.options->json ? sluice::plan_json(report) : sluice::plan_text(report));
    return static_cast<int>(report.verdict);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-plan: %s\n", error.what());
  }
  return sluice::kNoPlanExit;
}
