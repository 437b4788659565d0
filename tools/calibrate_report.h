// The calibration report: one HTML page with all its pictures in it, for any browser, offline.
// Threads: any.
#pragma once

#include <string>

#include "tools/budget_sweep.h"

namespace sluice {

// Heat map of the experts per layer, hit rates over budgets beside the optimum, working sets,
// overlap from token to token. The same input gives the same page.
std::string calibration_report(const TraceSet& traces, const BudgetSweep& sweep);

}  // namespace sluice
