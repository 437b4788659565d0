#include "tools/budget_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "io/error.h"
#include "stream/trace_statistics.h"
#include "tools/calibrate_report.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;

// 300 tokens through two layers of 32 experts, some of which lead.
TraceSet traces() {
  std::mt19937 random(1);
  Trace trace;
  for (int token = 0; token < 300; ++token) {
    for (const uint32_t layer : {1u, 4u}) {
      std::vector<uint32_t> chosen;
      while (chosen.size() < 3) {
        const auto expert = static_cast<uint32_t>(std::min(random() % 32, random() % 32));
        if (std::ranges::find(chosen, expert) == chosen.end()) chosen.push_back(expert);
      }
      trace.add(layer, chosen);
    }
  }
  TraceSet set;
  set.facts = {.model_type = "some<moe>",
               .grid = {.layers = {1, 4}, .experts = 32},
               .experts_per_token = 3,
               .expert_bytes = 1'000'000,
               .slot_bytes = 1'003'520};
  set.sequence = demand_sequence(trace, set.facts.grid);
  set.tokens = records_of_tokens(set.sequence).size();
  return set;
}

TEST(BudgetSweep, GoesFromTheFloorToAllExpertsThroughTheWorkingSet) {
  const TraceSet set = traces();
  uint64_t last = 0, total = 0;
  const BudgetSweep sweep = sweep_budgets(
      set, {.policies = {"lru", "lfru"}, .budgets = {}, .progress = [&](uint64_t d, uint64_t t) {
              last = d;
              total = t;
            }});
  EXPECT_EQ(last, total);
  ASSERT_EQ(sweep.curves.size(), 3u);
  EXPECT_EQ(sweep.curves[0].name, "lru");
  EXPECT_EQ(sweep.curves[1].name, "lfru");
  EXPECT_EQ(sweep.curves[2].name, "optimal");
  const auto slots_of = [](const SweepPoint& point) { return point.slots; };
  for (const SweepCurve& curve : sweep.curves) {
    EXPECT_EQ(curve.points.front().slots, 3u);
    EXPECT_EQ(curve.points.back().slots, 64u);
    EXPECT_NE(std::ranges::find(curve.points, 6u, slots_of), curve.points.end());
    EXPECT_NE(std::ranges::find(curve.points, 12u, slots_of), curve.points.end());
    EXPECT_TRUE(std::ranges::is_sorted(curve.points, std::less_equal(), &SweepPoint::hits) ||
                curve.name != "optimal");
    for (size_t i = 0; i < curve.points.size(); ++i) {
      EXPECT_LE(curve.points[i].hits, sweep.curves[2].points[i].hits);
    }
  }
  EXPECT_EQ(sweep.curves[0].points.back().hits, sweep.curves[2].points.back().hits);
}

TEST(BudgetSweep, RecommendsTheLeastBudgetWithMostOfTheHits) {
  const TraceSet set = traces();
  const BudgetSweep sweep = sweep_budgets(set, {.policies = {"lru"}, .budgets = {}});
  const std::vector<SweepPoint>& points = sweep.curves.front().points;
  const double enough = kEnoughHits * static_cast<double>(points.back().hits);
  for (const SweepPoint& point : points) {
    EXPECT_EQ(static_cast<double>(point.hits) >= enough, point.slots >= sweep.recommended_slots);
  }
}

TEST(BudgetSweep, FindsTheKneeOfACurveThatHasOne) {
  // Ten experts in turn, each asked for again and again: hits jump when all ten fit.
  Trace trace;
  for (uint32_t i = 0; i < 400; ++i) trace.add(0, std::vector<uint32_t>{i % 10});
  for (uint32_t i = 10; i < 64; ++i) trace.add(0, std::vector<uint32_t>{i});
  TraceSet set;
  set.facts = {.model_type = "m",
               .grid = {.layers = {0}, .experts = 64},
               .experts_per_token = 1,
               .expert_bytes = 1,
               .slot_bytes = 4096};
  set.sequence = demand_sequence(trace, set.facts.grid);
  set.tokens = set.sequence.records();
  std::vector<uint64_t> budgets;
  for (uint64_t slots = 1; slots <= 64; ++slots) budgets.push_back(slots * 4096);
  EXPECT_EQ(sweep_budgets(set, {.policies = {"lru"}, .budgets = budgets}).knee_slots, 10u);
}

TEST(BudgetSweep, TakesBudgetsAsAskedButNoneBelowTheFloor) {
  const TraceSet set = traces();
  const BudgetSweep sweep =
      sweep_budgets(set, {.policies = {"lru"}, .budgets = {20'000'000, 5'000'000, 10'000'000'000}});
  ASSERT_EQ(sweep.curves.front().points.size(), 3u);
  EXPECT_EQ(sweep.curves.front().points[0].slots, 4u);
  EXPECT_EQ(sweep.curves.front().points[1].slots, 19u);
  EXPECT_EQ(sweep.curves.front().points[2].slots, 64u);
  EXPECT_THROW(sweep_budgets(set, {.policies = {"lru"}, .budgets = {3'000'000}}), Error);
}

TEST(SweepText, NamesWhatMatters) {
  const TraceSet set = traces();
  const BudgetSweep sweep = sweep_budgets(set, {.policies = {"lru", "lfru"}, .budgets = {}});
  const std::string text = sweep_text(set, sweep);
  for (const char* word : {"lru", "lfru", "optimal", "one token's working set",
                           "knee: ", "recommended: --cache-budget-gb "}) {
    EXPECT_THAT(text, HasSubstr(word));
  }
}

TEST(SweepJson, HoldsTheWholeSweep) {
  const TraceSet set = traces();
  const BudgetSweep sweep = sweep_budgets(set, {.policies = {"lru"}, .budgets = {}});
  const auto json = nlohmann::json::parse(sweep_json(set, sweep));
  EXPECT_EQ(json.at("tokens"), 300);
  EXPECT_EQ(json.at("demands"), 1800);
  EXPECT_EQ(json.at("working_set_bytes"), 6 * 1'003'520);
  EXPECT_EQ(json.at("recommended_bytes"), sweep.recommended_slots * uint64_t{1'003'520});
  ASSERT_EQ(json.at("curves").size(), 2u);
  const auto& point = json.at("curves").at(0).at("points").back();
  EXPECT_EQ(point.at("slots"), 64);
  EXPECT_EQ(point.at("hits"), sweep.curves[0].points.back().hits);
  EXPECT_NEAR(point.at("hit_rate").get<double>(),
              static_cast<double>(sweep.curves[0].points.back().hits) / 1800, 1e-12);
}

// Every element that is opened is closed, in order.
void expect_well_formed(const std::string& html) {
  std::vector<std::string> open;
  for (size_t at = 0; (at = html.find('<', at)) != std::string::npos;) {
    const size_t end = html.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = html.substr(at + 1, end - at - 1);
    at = end;
    const std::string name = tag.substr(0, tag.find_first_of(" \n/", 1));
    if (tag.starts_with('!') || tag.ends_with('/') || name == "meta") continue;
    if (!tag.starts_with('/')) {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << tag;
    ASSERT_EQ("/" + open.back(), tag);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
}

TEST(CalibrationReport, IsOnePageThatNeedsNothingElse) {
  const TraceSet set = traces();
  const BudgetSweep sweep = sweep_budgets(set, {.policies = {"lru", "lfru"}, .budgets = {}});
  const std::string html = calibration_report(set, sweep);
  expect_well_formed(html);
  EXPECT_THAT(html, testing::StartsWith("<!DOCTYPE html>"));
  for (const char* outside : {"http", "src=", "href=", "<script", "<link", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
  for (const char* part : {"Hit rate by cache budget", "Which experts are used", "Working set",
                           "Overlap from token to token", "some&lt;moe&gt;"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("inf")));
  EXPECT_EQ(calibration_report(set, sweep), html);
}

TEST(CalibrationReport, StandsAModelOfOneLayerAndATraceOfOneToken) {
  Trace trace;
  trace.add(0, std::vector<uint32_t>{1});
  TraceSet set;
  set.facts = {.model_type = "m",
               .grid = {.layers = {0}, .experts = 2},
               .experts_per_token = 1,
               .expert_bytes = 1,
               .slot_bytes = 4096};
  set.sequence = demand_sequence(trace, set.facts.grid);
  set.tokens = 1;
  const std::string html =
      calibration_report(set, sweep_budgets(set, {.policies = {"lru"}, .budgets = {}}));
  expect_well_formed(html);
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace sluice
