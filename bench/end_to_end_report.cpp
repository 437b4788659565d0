#include "bench/end_to_end_report.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "io/json_text.h"
#include "model/plan.h"
#include "stream/trace_statistics.h"
#include "tools/program.h"
#include "tools/svg_chart.h"

namespace sluice::bench {
namespace {

using nlohmann::ordered_json;

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

std::string percent(double share) { return format("%.1f %%", 100 * share); }

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string name_of(const std::string& directory) {
  const std::filesystem::path path = std::filesystem::absolute(directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

std::string bytes_of(double bytes) { return bytes_text(static_cast<uint64_t>(bytes)); }

bool knows(const EndToEndReport& report, double Figures::*value) {
  return std::ranges::any_of(report.rows, [&](const auto& row) { return row.medians.*value > 0; });
}

std::string header_text(const EndToEndReport& report) {
  const Subject& subject = report.subject;
  const RoutingFacts& routing = report.routing;
  std::string text = format(
      "%s: %s of experts, %zu layers of %u, %u per token; %s\n", name_of(subject.directory).c_str(),
      bytes_text(subject.expert_total_bytes).c_str(), subject.grid.layers.size(),
      subject.grid.experts, subject.experts_per_token, report.io.c_str());
  text += format("fed: %llu tokens of prompt, %llu to warm up, %llu decoded; %s\n",
                 static_cast<unsigned long long>(report.prompt_tokens),
                 static_cast<unsigned long long>(report.warm_tokens),
                 static_cast<unsigned long long>(report.decode_tokens), report.tokens.c_str());
  text += format(
      "routing: %llu tokens behind the prompt use %s of the experts (%s in the layer of fewest); ",
      static_cast<unsigned long long>(routing.tokens), percent(mean(routing.used)).c_str(),
      percent(std::ranges::min(routing.used)).c_str());
  text +=
      format("each shares %s with the token before (at most %s, by chance %s)\n",
             percent(mean(routing.overlap)).c_str(),
             percent(std::ranges::max(routing.overlap)).c_str(), percent(routing.chance).c_str());
  text += format("ceilings: disk %.2f GB/s (reads of %s)", report.ceilings.disk,
                 bytes_text(subject.read_bytes).c_str());
  for (const auto& [threads, rate] : report.ceilings.memory) {
    text +=
        format(", memory %.1f GB/s (%u %s)", rate, threads, threads == 1 ? "thread" : "threads");
  }
  return text + format("; medians of %u rounds\n\n", report.rounds);
}

// Distinct lines of the chart: a name and its rows, which differ in the budget alone.
struct Line {
  std::string name;
  std::vector<const EndToEndReport::Row*> rows;
};

std::vector<Line> lines_of(const EndToEndReport& report) {
  std::set<uint32_t> depths;
  std::set<std::string> look_aheads;
  for (const auto& row : report.rows) {
    depths.insert(row.combination.depth);
    look_aheads.insert(row.combination.look_ahead);
  }
  std::vector<Line> lines;
  for (const auto& row : report.rows) {
    std::string name =
        format("%u thread%s", row.combination.threads, row.combination.threads == 1 ? "" : "s");
    if (depths.size() > 1) name += format(", depth %u", row.combination.depth);
    if (look_aheads.size() > 1) name += ", ahead: " + row.combination.look_ahead;
    const auto line = std::ranges::find(lines, name, &Line::name);
    if (line == lines.end()) {
      lines.push_back({name, {&row}});
    } else {
      line->rows.push_back(&row);
    }
  }
  for (Line& line : lines) {
    std::ranges::stable_sort(line.rows, {}, [](const auto* row) { return row->combination.share; });
  }
  return lines;
}

// At least value, such that a fifth of it is a short number.
double round_axis(double value) {
  const double unit = std::pow(10.0, std::floor(std::log10(value)));
  for (const double step : {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5}) {
    if (step * unit >= value) return step * unit;
  }
  return 10 * unit;
}

LineChart chart(const std::string& title, std::vector<ChartSeries> series, double y_most,
                std::function<std::string(double)> y_text) {
  return {.title = title,
          .x_label = "expert cache, as a share of all experts",
          .series = std::move(series),
          .y_most = y_most,
          .x_text = [](double share) { return svg_number(100 * share) + " %"; },
          .y_text = std::move(y_text)};
}

std::vector<ChartSeries> series_of(const std::vector<Line>& lines, double Figures::*value) {
  std::vector<ChartSeries> series;
  for (const Line& line : lines) {
    series.push_back({.name = line.name, .css_class = series_class(series.size()), .points = {}});
    for (const auto* row : line.rows) {
      series.back().points.push_back({row->combination.share, row->medians.*value});
    }
  }
  return series;
}

LineChart rate_chart(const std::string& title, const std::vector<Line>& lines,
                     double Figures::*value) {
  std::vector<ChartSeries> series = series_of(lines, value);
  double most = 0;
  for (const ChartSeries& one : series) {
    for (const auto& [x, y] : one.points) most = std::max(most, y);
  }
  return chart(title, std::move(series), round_axis(most), svg_number);
}

// Threads and depth do not change what a cache holds: where all lines agree, one is drawn.
LineChart hit_chart(const std::vector<Line>& lines) {
  std::vector<ChartSeries> series = series_of(lines, &Figures::hit_rate);
  const auto near_first = [&](const ChartSeries& other) {
    return std::ranges::equal(
        other.points, series.front().points,
        [](const auto& a, const auto& b) { return std::abs(a.second - b.second) < 0.01; });
  };
  if (series.size() > 1 && std::ranges::all_of(series, near_first)) {
    series.resize(1);
    series.front().name = "all alike";
  }
  return chart("Decode: hit rate of the expert cache", std::move(series), 1,
               [](double share) { return svg_number(100 * share) + " %"; });
}

ordered_json figures_json(const Figures& figures) {
  ordered_json json = ordered_json::object();
  for (const FigureField& field : figure_fields()) json[field.name] = figures.*field.value;
  // A zero says that these were not measured.
  for (const char* name : {"peak_rss_bytes", "disturbed_tokens_per_second", "disk_gb_per_second"}) {
    if (json[name] == 0) json[name] = nullptr;
  }
  return json;
}

}  // namespace

RoutingFacts routing_facts(const Trace& routing, const Subject& subject) {
  const DemandSequence sequence = demand_sequence(routing, subject.grid);
  const std::vector<uint64_t> uses = count_uses(sequence);
  RoutingFacts facts;
  facts.tokens = sequence.records() / sequence.layers;
  facts.overlap = token_overlap(sequence);
  facts.chance = static_cast<double>(subject.experts_per_token) / subject.grid.experts;
  for (uint32_t layer = 0; layer < sequence.layers; ++layer) {
    const auto of_layer =
        std::span(uses).subspan(uint64_t{layer} * sequence.experts, sequence.experts);
    const auto used = std::ranges::count_if(of_layer, [](uint64_t count) { return count > 0; });
    facts.used.push_back(static_cast<double>(used) / sequence.experts);
  }
  return facts;
}

std::string end_to_end_text(const EndToEndReport& report) {
  const bool disturbed = knows(report, &Figures::disturbed_rate);
  std::string text = header_text(report);
  text +=
      "           budget  threads  depth  ahead |  prompt tok/s  of floor   again |  decode tok/s  "
      "of floor"
      "  hit rate  foreseen  read/token  disk GB/s  waiting |  peak of plan";
  text += disturbed ? " |  beside a busy process\n" : "\n";
  const auto shown = [](bool measured, const std::string& value) {
    return measured ? value : std::string("-");
  };
  for (const auto& [combination, f, rounds] : report.rows) {
    text += format("%8s %8s  %7u  %5u  %5s |", bytes_text(combination.budget_bytes).c_str(),
                   format("%.3g %%", 100 * combination.share).c_str(), combination.threads,
                   combination.depth, combination.look_ahead.c_str());
    text += format("  %12.1f  %6.0f %% %7.1f |", f.prompt_rate, 100 * f.prompt_of_floor,
                   f.prompt_again_rate);
    text += format("  %12.2f  %6.0f %%  %8s", f.decode_rate, 100 * f.decode_of_floor,
                   percent(f.hit_rate).c_str());
    text +=
        format("  %8s  %10s  %9s  %5.0f %% |", shown(f.foreseen > 0, percent(f.foreseen)).c_str(),
               bytes_of(f.read_per_token).c_str(),
               shown(f.disk_rate > 0, format("%.2f", f.disk_rate)).c_str(), 100 * f.waiting_share);
    text +=
        format("  %12s", shown(f.peak_bytes > 0, percent(f.peak_bytes / f.planned_bytes)).c_str());
    if (disturbed) {
      text += format(" |  %.2f tok/s, %.0f %%", f.disturbed_rate,
                     100 * f.disturbed_rate / f.decode_rate);
    }
    text += "\n";
  }
  return text;
}

std::string end_to_end_json(const EndToEndReport& report) {
  const Subject& subject = report.subject;
  ordered_json memory = ordered_json::object();
  for (const auto& [threads, rate] : report.ceilings.memory) memory[std::to_string(threads)] = rate;
  ordered_json rows = ordered_json::array();
  for (const auto& row : report.rows) {
    ordered_json rounds = ordered_json::array();
    for (const Figures& figures : row.rounds) rounds.push_back(figures_json(figures));
    rows.push_back({{"budget_bytes", row.combination.budget_bytes},
                    {"budget_share", row.combination.share},
                    {"threads", row.combination.threads},
                    {"depth", row.combination.depth},
                    {"look_ahead", row.combination.look_ahead},
                    {"medians", figures_json(row.medians)},
                    {"rounds", rounds}});
  }
  const ordered_json json = {{"bench", "end_to_end"},
                             {"version", version()},
                             {"model", subject.directory},
                             {"layers", subject.grid.layers.size()},
                             {"experts", subject.grid.experts},
                             {"experts_per_token", subject.experts_per_token},
                             {"expert_total_bytes", subject.expert_total_bytes},
                             {"io", report.io},
                             {"tokens", report.tokens},
                             {"prompt_tokens", report.prompt_tokens},
                             {"warm_tokens", report.warm_tokens},
                             {"decode_tokens", report.decode_tokens},
                             {"round_count", report.rounds},
                             {"routing",
                              {{"tokens", report.routing.tokens},
                               {"used_share_by_layer", report.routing.used},
                               {"overlap_by_layer", report.routing.overlap},
                               {"overlap_by_chance", report.routing.chance}}},
                             {"ceilings",
                              {{"disk_gb_per_second", report.ceilings.disk},
                               {"disk_read_bytes", subject.read_bytes},
                               {"memory_gb_per_second_by_threads", memory}}},
                             {"rows", rows}};
  // A directory's name may be any bytes.
  return json_text(json, 2, ordered_json::error_handler_t::replace) + "\n";
}

std::string end_to_end_svg(const EndToEndReport& report) {
  const std::vector<Line> lines = lines_of(report);
  const LineChart charts[] = {
      rate_chart("Decode: tokens per second", lines, &Figures::decode_rate), hit_chart(lines),
      rate_chart("Prompt, from an empty cache: tokens per second", lines, &Figures::prompt_rate)};
  return svg_document(name_of(report.subject.directory) + ", " +
                          bytes_text(report.subject.expert_total_bytes) + " of experts",
                      charts);
}

}  // namespace sluice::bench
