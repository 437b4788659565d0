#include "tools/evaluate_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "io/error.h"
#include "io/json_text.h"
#include "kernels/kernels.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::ordered_json;

std::string number_text(double value, int decimals) {
  if (!std::isfinite(value)) return "-";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::string file_name(const EvaluationResult& result) {
  return std::filesystem::path(result.file).filename().string();
}

double speed(const EvaluationResult& result) {
  return result.seconds > 0 ? static_cast<double>(result.tokens) / result.seconds : 0;
}

double hit_rate(const EvaluationResult& result) {
  const CacheStatistics& cache = result.stream.cache;
  if (cache.bytes_demanded == 0) return std::nan("");
  return static_cast<double>(cache.bytes_kept()) / static_cast<double>(cache.bytes_demanded);
}

double bytes_per_token(const EvaluationResult& result) {
  const ReadStatistics& reads = result.stream.reads;
  if (result.tokens == 0) return std::nan("");
  return static_cast<double>(reads.bytes_demanded + reads.bytes_speculated) /
         static_cast<double>(result.tokens);
}

// "+9.63 %"
std::string change_text(const EvaluationResult& result) {
  const double ratio = result.over_reference.perplexity();
  return (ratio >= 1 ? "+" : "") + number_text(100 * (ratio - 1), 2) + " %";
}

using Row = std::vector<std::string>;

Row header(bool compared) {
  Row row = {"model", "compute", "file", "windows", "perplexity", "+-", "tok/s"};
  if (compared) row.insert(row.end(), {"change", "+-", "mean KL", "99 % KL", "same top"});
  return row;
}

Row table_row(const EvaluationResult& result, bool compared) {
  std::string windows = std::to_string(result.windows);
  if (result.windows < result.planned_windows) {
    windows += " of " + std::to_string(result.planned_windows);
  }
  Row row = {result.model.label,
             compute_name(result.compute),
             file_name(result),
             windows,
             number_text(result.likelihood.perplexity(), 4),
             number_text(result.likelihood.perplexity_error(), 4),
             number_text(speed(result), speed(result) < 10 ? 2 : 0)};
  if (!compared) return row;
  if (result.reference) {
    row.insert(row.end(), {"reference", "", "", "", ""});
  } else if (result.divergence && result.divergence->tokens > 0) {
    const DivergenceSummary& kl = *result.divergence;
    row.insert(row.end(),
               {change_text(result), number_text(100 * result.over_reference.perplexity_error(), 2),
                number_text(kl.mean, 6), number_text(kl.percentile_99, 5),
                number_text(100 * kl.top_agreement, 2) + " %"});
  } else {
    row.insert(row.end(), {"", "", "", "", ""});
  }
  return row;
}

// What a terminal shows, near enough: one column a character.
size_t columns_of(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Names to the left, numbers to the right.
std::string aligned(const std::vector<Row>& rows) {
  constexpr size_t kNames = 3;
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns_of(row[i]), ' ');
      line += (i == 0 ? "" : "  ") + (i < kNames ? row[i] + padding : padding + row[i]);
    }
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
  }
  return text;
}

std::string worst_line(const EvaluationResult& result) {
  const DivergenceSummary& kl = *result.divergence;
  return "worst token of " + result.model.label + " " + compute_name(result.compute) + ": \"" +
         excerpt(result.worst_text) + "\" at token " + std::to_string(kl.worst_position) + " of " +
         file_name(result) + ", KL " + number_text(kl.worst, 4) + "\n";
}

// A figure that was not measured is null: JSON knows no NaN.
ordered_json figure(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json divergence_json(const EvaluationResult& result) {
  if (!result.divergence || result.divergence->tokens == 0) return nullptr;
  const DivergenceSummary& kl = *result.divergence;
  return {{"perplexity_ratio", result.over_reference.perplexity()},
          {"perplexity_ratio_error", figure(result.over_reference.perplexity_error())},
          {"mean", kl.mean},
          {"mean_error", figure(kl.mean_error)},
          {"median", kl.median},
          {"percentile_99", kl.percentile_99},
          {"top_agreement", kl.top_agreement},
          {"worst",
           {{"divergence", kl.worst},
            {"position", kl.worst_position},
            {"token", kl.worst_id},
            {"text", result.worst_text}}}};
}

ordered_json result_json(const EvaluationResult& result) {
  return {{"label", result.model.label},
          {"model", result.model.directory},
          {"compute", compute_name(result.compute)},
          {"reference", result.reference},
          {"file", result.file},
          {"windows", result.windows},
          {"planned_windows", result.planned_windows},
          {"scored_tokens", result.likelihood.tokens()},
          {"mean_nll", figure(result.likelihood.mean())},
          {"perplexity", figure(result.likelihood.perplexity())},
          {"perplexity_error", figure(result.likelihood.perplexity_error())},
          {"divergence", divergence_json(result)},
          {"tokens", result.tokens},
          {"seconds", result.seconds},
          {"tokens_per_second", speed(result)},
          {"hit_rate", figure(hit_rate(result))},
          {"bytes_read_per_token", figure(bytes_per_token(result))},
          {"wait_seconds", static_cast<double>(result.stream.wait_us) * 1e-6},
          {"budget_bytes", result.plan.cache_bytes},
          {"planned_bytes", result.plan.total_bytes()},
          {"threads", result.threads},
          {"io", result.io}};
}

}  // namespace

std::string result_line(const EvaluationResult& result) {
  std::string text =
      result.model.label + " " + compute_name(result.compute) + " " + file_name(result) +
      ": perplexity " + number_text(result.likelihood.perplexity(), 4) + " +- " +
      number_text(result.likelihood.perplexity_error(), 4) + " (" + std::to_string(result.windows) +
      " windows, " + number_text(speed(result), speed(result) < 10 ? 2 : 0) + " tok/s";
  if (result.has_experts && std::isfinite(bytes_per_token(result))) {
    text += ", " + bytes_text(static_cast<uint64_t>(bytes_per_token(result))) + " read per token";
  }
  return text + ")\n";
}

std::string results_table(std::span<const EvaluationResult> results) {
  if (results.empty()) return {};
  const bool compared =
      std::ranges::any_of(results, [](const EvaluationResult& result) { return result.reference; });
  std::vector<Row> rows = {header(compared)};
  for (const EvaluationResult& result : results) {
    rows.push_back(table_row(result, compared));
  }
  std::string text = aligned(rows);
  for (const EvaluationResult& result : results) {
    if (result.divergence && result.divergence->tokens > 0) text += worst_line(result);
  }
  return text;
}

std::string results_json(const EvaluateOptions& options, std::span<const EvaluationResult> results,
                         bool interrupted) {
  ordered_json list = ordered_json::array();
  for (const EvaluationResult& result : results) list.push_back(result_json(result));
  const ordered_json json = {{"version", version()},
                             {"context", options.windows.context},
                             {"stride", options.windows.stride},
                             {"isa", kernels::table().name},
                             {"interrupted", interrupted},
                             {"results", std::move(list)}};
  // A directory's name, or half a character of a token, may be any bytes.
  return json_text(json, 2, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice
