// BudgetSweep: the hit rates that a trace would have at many budgets, under each policy and at
// best, and which budget follows from that.
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tools/trace_files.h"

namespace sluice {

struct SweepPoint {
  uint32_t slots = 0;
  uint64_t hits = 0;
};

struct SweepCurve {
  std::string name;                // a policy, or "optimal"
  std::vector<SweepPoint> points;  // slots ascending, the same for all curves
};

struct BudgetSweep {
  std::vector<SweepCurve> curves;  // the policies as asked for, then "optimal"
  uint64_t demands = 0;
  // On the first policy's curve.
  uint32_t knee_slots = 0;         // farthest above the straight line from first to last point
  uint32_t recommended_slots = 0;  // the least with kEnoughHits of the hits that the last point has

  double hit_rate(const SweepPoint& point) const {
    return static_cast<double>(point.hits) / static_cast<double>(demands);
  }
};

inline constexpr double kEnoughHits = 0.9;

struct SweepOptions {
  std::vector<std::string> policies;  // at least one
  std::vector<uint64_t> budgets;      // bytes; empty: from the floor to all experts of the trace
  std::vector<ExpertKey> pins = {};   // for the policies
  std::function<void(uint64_t done, uint64_t total)> progress = {};  // demands replayed
};

// Throws Error: a budget below the floor, an unknown policy.
BudgetSweep sweep_budgets(const TraceSet& traces, const SweepOptions& options);

// A table and the findings, for a person; each line ended.
std::string sweep_text(const TraceSet& traces, const BudgetSweep& sweep);
// docs/calibrate.md says what the fields are; ended with a newline.
std::string sweep_json(const TraceSet& traces, const BudgetSweep& sweep);

}  // namespace sluice
