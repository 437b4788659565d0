#include "tools/calibrate_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "model/plan.h"
#include "stream/trace_statistics.h"
#include "tools/program.h"
#include "tools/svg_chart.h"

namespace sluice {
namespace {

// Shades of the heat map, from never used to used most.
constexpr std::array<const char*, 9> kShades = {"#f1f3f5", "#dbe9f6", "#bad6eb",
                                                "#89bedc", "#539ecd", "#2b7bba",
                                                "#0b559f", "#083979", "#041f4a"};

constexpr const char* kStyle = R"(
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2024; background: #fff; max-width: 920px;
       margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.15em; margin-top: 2em; }
p { max-width: 75ch; } .note { color: #5a646e; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15em .9em; border-bottom: 1px solid #e3e7ea; }
th { font-weight: 600; } tr.chosen td { background: #fff4d6; }
.facts td { text-align: left; }
.facts td { border: 0; padding: .1em .9em .1em 0; }
svg { width: 100%; height: auto; display: block; }
.bar { fill: #2b7bba; }
)";

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

std::string section(const std::string& title, const std::string& note, const std::string& body) {
  return "<h2>" + escaped(title) + "</h2>\n<p class=\"note\">" + escaped(note) + "</p>\n" + body;
}

std::string facts_table(const TraceSet& traces, const BudgetSweep& sweep) {
  const auto row = [](const std::string& name, const std::string& value) {
    return "<tr><td>" + escaped(name) + "</td><td>" + escaped(value) + "</td></tr>\n";
  };
  const TraceFacts& facts = traces.facts;
  return "<table class=\"facts\">\n" + row("Model type", facts.model_type) +
         row("Experts", std::to_string(facts.grid.experts) + " in each of " +
                            std::to_string(facts.grid.layers.size()) + " layers, " +
                            std::to_string(facts.experts_per_token) + " per token, " +
                            bytes_text(facts.expert_bytes) + " each") +
         row("All experts in memory", bytes_text(traces.slot_bytes(facts.grid.keys()))) +
         row("One token's working set", bytes_text(traces.slot_bytes(traces.working_set_slots()))) +
         row("Trace", std::to_string(traces.tokens) + " tokens, " + std::to_string(sweep.demands) +
                          " uses of experts") +
         row("Knee", bytes_text(traces.slot_bytes(sweep.knee_slots))) +
         row("Recommended budget", bytes_text(traces.slot_bytes(sweep.recommended_slots))) +
         "</table>\n";
}

std::string curves_chart(const TraceSet& traces, const BudgetSweep& sweep) {
  LineChart chart{
      .title = "Hit rate by budget",
      .x_label = "cache budget",
      .series = {},
      .x_text =
          [&](double slots) { return bytes_text(traces.slot_bytes(static_cast<uint64_t>(slots))); },
      .y_text = percent};
  for (size_t i = 0; i < sweep.curves.size(); ++i) {
    const SweepCurve& curve = sweep.curves[i];
    const bool best = i + 1 == sweep.curves.size();
    ChartSeries series{
        .name = curve.name, .css_class = best ? "best" : series_class(i), .points = {}};
    for (const SweepPoint& point : curve.points) {
      series.points.push_back({point.slots, sweep.hit_rate(point)});
    }
    chart.series.push_back(std::move(series));
  }
  const std::vector<SweepPoint>& points = sweep.curves.front().points;
  const auto working_set = static_cast<double>(traces.working_set_slots());
  if (working_set >= points.front().slots && working_set <= points.back().slots) {
    chart.marks.push_back({working_set, "one token's working set"});
  }
  if (sweep.knee_slots == sweep.recommended_slots) {
    chart.marks.push_back({static_cast<double>(sweep.knee_slots), "knee, recommended"});
  } else {
    chart.marks.push_back({static_cast<double>(sweep.knee_slots), "knee"});
    chart.marks.push_back({static_cast<double>(sweep.recommended_slots), "recommended"});
  }
  std::ranges::sort(chart.marks, {}, &ChartMark::x);
  return svg_chart(chart);
}

std::string curves_table(const TraceSet& traces, const BudgetSweep& sweep) {
  std::string html = "<table>\n<tr><th>budget</th><th>slots</th>";
  for (const SweepCurve& curve : sweep.curves) html += "<th>" + escaped(curve.name) + "</th>";
  html += "</tr>\n";
  for (size_t i = 0; i < sweep.curves.front().points.size(); ++i) {
    const uint32_t slots = sweep.curves.front().points[i].slots;
    html += slots == sweep.recommended_slots ? "<tr class=\"chosen\">" : "<tr>";
    html += "<td>" + bytes_text(traces.slot_bytes(slots)) + "</td><td>" + std::to_string(slots) +
            "</td>";
    for (const SweepCurve& curve : sweep.curves) {
      html += "<td>" + percent(sweep.hit_rate(curve.points[i])) + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

// Squares of one shade are one path, so that a model of 30,000 experts is a page of a megabyte.
std::string heat_map(const TraceSet& traces) {
  const ExpertGrid& grid = traces.facts.grid;
  const std::vector<uint64_t> uses = count_uses(traces.sequence);
  const double most = static_cast<double>(std::max<uint64_t>(1, std::ranges::max(uses)));
  constexpr double kLeft = 40, kWidth = 860, kCellHeight = 12, kTop = 4;
  const double cell_width = (kWidth - kLeft) / grid.experts;
  std::array<std::string, kShades.size()> paths;
  std::string labels;
  for (size_t layer = 0; layer < grid.layers.size(); ++layer) {
    const double y = kTop + kCellHeight * static_cast<double>(layer);
    labels += "<text x=\"" + svg_number(kLeft - 6) + "\" y=\"" + svg_number(y + 10) +
              "\" text-anchor=\"end\">" + std::to_string(grid.layers[layer]) + "</text>\n";
    for (uint32_t expert = 0; expert < grid.experts; ++expert) {
      const auto count = static_cast<double>(uses[layer * grid.experts + expert]);
      // The square root: rarely used ones can still be told from unused ones.
      const double shade = std::ceil(std::sqrt(count / most) * (kShades.size() - 1));
      paths[static_cast<size_t>(shade)] += "M" + svg_number(kLeft + cell_width * expert) + " " +
                                           svg_number(y) + "h" + svg_number(cell_width * 0.94) +
                                           "v" + svg_number(kCellHeight - 1) + "h-" +
                                           svg_number(cell_width * 0.94) + "z";
    }
  }
  const double height = kTop + kCellHeight * static_cast<double>(grid.layers.size()) + 20;
  std::string svg = "<svg viewBox=\"0 0 " + svg_number(kWidth) + " " + svg_number(height) +
                    "\" role=\"img\" aria-label=\"Uses of each expert in each layer\">\n" + labels;
  for (size_t shade = 0; shade < kShades.size(); ++shade) {
    svg += std::string("<path fill=\"") + kShades[shade] + "\" d=\"" + paths[shade] + "\"/>\n";
  }
  return svg + "<text x=\"" + svg_number(kLeft) + "\" y=\"" + svg_number(height - 5) +
         "\">expert 0</text>\n<text x=\"" + svg_number(kWidth) + "\" y=\"" +
         svg_number(height - 5) + "\" text-anchor=\"end\">expert " +
         std::to_string(grid.experts - 1) + "</text>\n</svg>\n";
}

// "10 % of the experts take 31 % of all uses, a quarter takes ..., 3 were never used."
std::string concentration_text(const TraceSet& traces) {
  std::vector<uint64_t> uses = count_uses(traces.sequence);
  std::ranges::sort(uses, std::greater());
  const auto share_of = [&](double share) {
    const auto count = static_cast<size_t>(share * static_cast<double>(uses.size()));
    uint64_t sum = 0;
    for (size_t i = 0; i < count; ++i) sum += uses[i];
    return percent(static_cast<double>(sum) / static_cast<double>(traces.sequence.demands.size()));
  };
  return "The tenth of the experts used most takes " + share_of(0.1) + " of all uses, the half " +
         share_of(0.5) + "; " + std::to_string(std::ranges::count(uses, 0u)) + " of " +
         std::to_string(uses.size()) +
         " were never used. Rows are layers; the darker, the more uses.";
}

std::string working_set_chart(const TraceSet& traces) {
  const std::vector<WorkingSet> sets = working_sets(traces.sequence);
  ChartSeries series{.name = "distinct experts", .css_class = "series-0", .points = {}};
  for (const WorkingSet& set : sets) {
    series.points.push_back({static_cast<double>(set.tokens), set.experts});
  }
  return svg_chart({.title = "Working set by number of tokens",
                    .x_label = "tokens in a row",
                    .series = {series},
                    .y_most = static_cast<double>(traces.facts.grid.keys()),
                    .x_text = svg_number,
                    .y_text = [&](double experts) {
                      return bytes_text(traces.slot_bytes(static_cast<uint64_t>(experts)));
                    }});
}

std::string overlap_chart(const TraceSet& traces) {
  const std::vector<double> overlap = token_overlap(traces.sequence);
  constexpr double kLeft = 70, kWidth = 860, kHeight = 180, kPlot = 140, kTop = 10;
  const double step = (kWidth - kLeft) / static_cast<double>(overlap.size());
  // Numbers below the bars as far as there is room.
  const auto every = static_cast<size_t>(std::max(1.0, std::ceil(24 / step)));
  std::string svg =
      "<svg viewBox=\"0 0 860 180\" role=\"img\" aria-label=\"Share of experts that "
      "the token before used, per layer\">\n";
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const std::string y = svg_number(kTop + kPlot * (1 - share));
    svg += "<line class=\"grid\" x1=\"" + svg_number(kLeft) + "\" x2=\"" + svg_number(kWidth) +
           "\" y1=\"" + y + "\" y2=\"" + y + "\"/>\n<text x=\"" + svg_number(kLeft - 8) +
           "\" y=\"" + svg_number(kTop + kPlot * (1 - share) + 4) + "\" text-anchor=\"end\">" +
           svg_number(100 * share) + " %</text>\n";
  }
  for (size_t layer = 0; layer < overlap.size(); ++layer) {
    const double x = kLeft + step * static_cast<double>(layer);
    svg += "<rect class=\"bar\" x=\"" + svg_number(x + 0.15 * step) + "\" width=\"" +
           svg_number(0.7 * step) + "\" y=\"" + svg_number(kTop + kPlot * (1 - overlap[layer])) +
           "\" height=\"" + svg_number(kPlot * overlap[layer]) + "\"><title>layer " +
           std::to_string(traces.facts.grid.layers[layer]) + ": " + percent(overlap[layer]) +
           "</title></rect>\n";
    if (layer % every != 0) continue;
    svg += "<text x=\"" + svg_number(x + step / 2) + "\" y=\"" + svg_number(kHeight - 14) +
           "\" text-anchor=\"middle\">" + std::to_string(traces.facts.grid.layers[layer]) +
           "</text>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace

std::string calibration_report(const TraceSet& traces, const BudgetSweep& sweep) {
  return std::string("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n") +
         "<meta name=\"viewport\" content=\"width=device-width\">\n" +
         "<title>Sluice calibration report</title>\n<style>" + kStyle + kChartStyle +
         "</style>\n</head>\n" + "<body>\n<h1>Sluice calibration report</h1>\n" +
         facts_table(traces, sweep) +
         section("Hit rate by cache budget",
                 "How often an expert is in memory when it is needed, from an empty cache on. "
                 "Replayed through the engine's own cache; \"optimal\" knows the future, and no "
                 "policy gets more.",
                 curves_chart(traces, sweep) + curves_table(traces, sweep)) +
         section("Which experts are used", concentration_text(traces), heat_map(traces)) +
         section("Working set",
                 "Memory that the distinct experts of so many tokens in a row take, on average.",
                 working_set_chart(traces)) +
         section("Overlap from token to token",
                 "The share of a token's experts that the token before used too, per layer. Equal "
                 "chances for all experts would give " +
                     percent(static_cast<double>(traces.facts.experts_per_token) /
                             traces.facts.grid.experts) +
                     ".",
                 overlap_chart(traces)) +
         "<p class=\"note\">Written by stream-calibrate " + escaped(version()) +
         ".</p>\n</body>\n</html>\n";
}

}  // namespace sluice
