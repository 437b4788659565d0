#include "tools/budget_sweep.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "io/error.h"
#include "io/json_text.h"
#include "model/plan.h"

namespace sluice {
namespace {

using nlohmann::ordered_json;

// Half a power of two between budgets: as much as changes a hit rate visibly.
const double kStep = std::sqrt(2.0);

std::vector<uint32_t> slots_to_try(const TraceSet& traces, const std::vector<uint64_t>& budgets) {
  const auto keys = static_cast<uint32_t>(traces.facts.grid.keys());
  const uint32_t floor = std::max(traces.sequence.longest, traces.facts.experts_per_token);
  std::vector<uint32_t> slots;
  if (budgets.empty()) {
    for (double n = floor; n < keys; n *= kStep) slots.push_back(static_cast<uint32_t>(n));
    const uint64_t working_set = traces.working_set_slots();
    for (const uint64_t n : {working_set, 2 * working_set, uint64_t{keys}}) {
      if (n <= keys) slots.push_back(static_cast<uint32_t>(n));
    }
  }
  for (const uint64_t budget : budgets) {
    const uint64_t n = std::min<uint64_t>(budget / traces.facts.slot_bytes, keys);
    if (n < floor) {
      throw Error("a budget of ", bytes_text(budget), " is below the floor of ",
                  bytes_text(traces.slot_bytes(floor)), ": ", floor,
                  " experts must fit at once; simulate larger ones");
    }
    slots.push_back(static_cast<uint32_t>(n));
  }
  std::ranges::sort(slots);
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  return slots;
}

uint32_t find_knee(const std::vector<SweepPoint>& points) {
  const SweepPoint& first = points.front();
  const SweepPoint& last = points.back();
  const double slope = last.slots == first.slots
                           ? 0
                           : (static_cast<double>(last.hits) - static_cast<double>(first.hits)) /
                                 (last.slots - first.slots);
  const auto above = [&](const SweepPoint& point) {
    return static_cast<double>(point.hits) - slope * (point.slots - first.slots);
  };
  return std::ranges::max_element(points, {}, above)->slots;
}

uint32_t least_with_enough(const std::vector<SweepPoint>& points) {
  const double enough = kEnoughHits * static_cast<double>(points.back().hits);
  return std::ranges::find_if(points,
                              [enough](const SweepPoint& point) {
                                return static_cast<double>(point.hits) >= enough;
                              })
      ->slots;
}

std::string cell(const std::string& text) {
  return text.size() < 10 ? std::string(10 - text.size(), ' ') + text : " " + text;
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

uint64_t read_per_token(const TraceSet& traces, const BudgetSweep& sweep, const SweepPoint& point) {
  const double missed = (1 - sweep.hit_rate(point)) * traces.demands_per_token();
  return static_cast<uint64_t>(missed * static_cast<double>(traces.facts.expert_bytes));
}

// An argument for --cache-budget-gb that is at least so many bytes: rounded up to 100 kB.
std::string budget_gb(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", std::ceil(static_cast<double>(bytes) / 1e5) / 1e4);
  return text;
}

}  // namespace

BudgetSweep sweep_budgets(const TraceSet& traces, const SweepOptions& options) {
  const std::vector<uint32_t> slots = slots_to_try(traces, options.budgets);
  BudgetSweep sweep{.curves = {}, .demands = traces.sequence.demands.size()};
  const uint64_t total = sweep.demands * slots.size() * (options.policies.size() + 1);
  uint64_t done = 0;
  const auto add_curve = [&](const std::string& name, const auto& hits_with) {
    SweepCurve curve{.name = name, .points = {}};
    for (const uint32_t n : slots) {
      curve.points.push_back({.slots = n, .hits = hits_with(n)});
      done += sweep.demands;
      if (options.progress) options.progress(done, total);
    }
    sweep.curves.push_back(std::move(curve));
  };
  for (const std::string& policy : options.policies) {
    add_curve(policy, [&](uint32_t n) {
      return replay(traces.sequence, {.slots = n, .policy = policy, .pins = options.pins}).hits;
    });
  }
  add_curve("optimal", [&](uint32_t n) {
    const std::span<const ExpertKey> pins(options.pins);
    return optimal_hits(traces.sequence, n, pins.first(std::min<size_t>(n, pins.size())));
  });
  sweep.knee_slots = find_knee(sweep.curves.front().points);
  sweep.recommended_slots = least_with_enough(sweep.curves.front().points);
  return sweep;
}

std::string sweep_text(const TraceSet& traces, const BudgetSweep& sweep) {
  std::string text = cell("budget") + cell("slots");
  for (const SweepCurve& curve : sweep.curves) text += cell(curve.name);
  text += cell("read/token") + "\n";
  for (size_t i = 0; i < sweep.curves.front().points.size(); ++i) {
    const SweepPoint& point = sweep.curves.front().points[i];
    text += cell(bytes_text(traces.slot_bytes(point.slots))) + cell(std::to_string(point.slots));
    for (const SweepCurve& curve : sweep.curves) {
      text += cell(percent(sweep.hit_rate(curve.points[i])));
    }
    text += cell(bytes_text(read_per_token(traces, sweep, point)));
    if (point.slots == traces.working_set_slots()) text += "  one token's working set";
    if (point.slots == sweep.knee_slots) text += "  knee";
    if (point.slots == sweep.recommended_slots) text += "  recommended";
    text += "\n";
  }
  const std::string policy = sweep.curves.front().name;
  text += "knee: " + bytes_text(traces.slot_bytes(sweep.knee_slots)) +
          ", from where on memory buys " + "fewer hits than up to there (" + policy + ")\n";
  text += "recommended: --cache-budget-gb " +
          budget_gb(traces.slot_bytes(sweep.recommended_slots)) + ", the least with " +
          percent(kEnoughHits) + " of the hits that " +
          bytes_text(traces.slot_bytes(sweep.curves.front().points.back().slots)) + " would get\n";
  return text;
}

std::string sweep_json(const TraceSet& traces, const BudgetSweep& sweep) {
  ordered_json json = {{"model_type", traces.facts.model_type},
                       {"tokens", traces.tokens},
                       {"demands", sweep.demands},
                       {"expert_bytes", traces.facts.expert_bytes},
                       {"slot_bytes", traces.facts.slot_bytes},
                       {"working_set_bytes", traces.slot_bytes(traces.working_set_slots())},
                       {"knee_bytes", traces.slot_bytes(sweep.knee_slots)},
                       {"recommended_bytes", traces.slot_bytes(sweep.recommended_slots)},
                       {"curves", ordered_json::array()}};
  for (const SweepCurve& curve : sweep.curves) {
    ordered_json points = ordered_json::array();
    for (const SweepPoint& point : curve.points) {
      points.push_back({{"budget_bytes", traces.slot_bytes(point.slots)},
                        {"slots", point.slots},
                        {"hits", point.hits},
                        {"hit_rate", sweep.hit_rate(point)},
                        {"bytes_read_per_token", read_per_token(traces, sweep, point)}});
    }
    json["curves"].push_back({{"policy", curve.name}, {"points", points}});
  }
  return json_text(json, 2, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice
