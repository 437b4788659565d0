#include "stream/trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "cache/expert_cache.h"
#include "io/error.h"
#include "io/json_text.h"

namespace sluice {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr int kMaxDepth = 3;
constexpr uint32_t kMaxLayers = 65536;
constexpr uint32_t kMaxExperts = 1 << 20;
constexpr uint64_t kMaxExpertBytes = uint64_t{1} << 40;
constexpr uint64_t kReadBytes = 1 << 20;
constexpr const char* kRecordForm = "expected [layer, [expert, ...]]";

std::string facts_line(const TraceFacts& facts) {
  const ordered_json line = {{"sluice_trace", kVersion},
                             {"model_type", facts.model_type},
                             {"layers", facts.grid.layers},
                             {"experts", facts.grid.experts},
                             {"experts_per_token", facts.experts_per_token},
                             {"expert_bytes", facts.expert_bytes},
                             {"slot_bytes", facts.slot_bytes}};
  return json_text(line) + "\n";
}

void append_record(std::string& text, uint32_t layer, std::span<const uint32_t> experts) {
  text += '[';
  text += std::to_string(layer);
  text += ",[";
  for (size_t i = 0; i < experts.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(experts[i]);
  }
  text += "]]\n";
}

// Reads a trace line by line.
class Parser {
 public:
  explicit Parser(const std::string& path) : path_(path) {}

  // line: without its end.
  void add(std::string_view line) {
    ++line_;
    if (line.size() > kMaxTraceLineBytes) fail("longer than any record");
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const json value = parse(line);
    if (value.is_object()) {
      if (trace_.facts || trace_.size() > 0) fail("facts of the model after the first line");
      trace_.facts = facts(value);
    } else {
      add_record(value);
    }
  }

  Trace take() { return std::move(trace_); }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(path_, ": line ", line_, ": ", parts...);
  }

  json parse(std::string_view line) const {
    try {
      return json_from(line, [this](int depth, json::parse_event_t, json&) {
        if (depth > kMaxDepth) fail(kRecordForm);
        return true;
      });
    } catch (const json::exception&) {
      fail("not valid JSON; ", kRecordForm, ", found ", excerpt(line));
    }
  }

  uint64_t count(const json& value, uint64_t least, uint64_t most, const char* what) const {
    if (!value.is_number_unsigned() || value < least || value > most) {
      fail("expected ", what, " from ", least, " to ", most);
    }
    return value.get<uint64_t>();
  }

  // The first line: every key must be there.
  TraceFacts facts(const json& line) const {
    const auto field = [&](const char* key) -> const json& {
      if (!line.contains(key)) fail("the facts of the model lack \"", key, "\"");
      return line[key];
    };
    if (field("sluice_trace") != kVersion) fail("a trace of another version than ", kVersion);
    TraceFacts facts;
    if (!field("model_type").is_string()) fail("\"model_type\": expected a name");
    facts.model_type = field("model_type").get<std::string>();
    if (!field("layers").is_array() || field("layers").empty()) fail("\"layers\": expected some");
    for (const json& layer : field("layers")) {
      const auto number = static_cast<uint32_t>(count(layer, 0, kMaxLayers - 1, "a layer"));
      if (!facts.grid.layers.empty() && number <= facts.grid.layers.back()) {
        fail("\"layers\": expected them ascending");
      }
      facts.grid.layers.push_back(number);
    }
    facts.grid.experts =
        static_cast<uint32_t>(count(field("experts"), 1, kMaxExperts, "\"experts\""));
    if (facts.grid.keys() > kMaxExpertKeys) fail("more than ", kMaxExpertKeys, " experts");
    facts.experts_per_token = static_cast<uint32_t>(
        count(field("experts_per_token"), 1, facts.grid.experts, "\"experts_per_token\""));
    facts.expert_bytes = count(field("expert_bytes"), 1, kMaxExpertBytes, "\"expert_bytes\"");
    facts.slot_bytes = count(field("slot_bytes"), 1, kMaxExpertBytes, "\"slot_bytes\"");
    return facts;
  }

  void add_record(const json& record) {
    if (!record.is_array() || record.size() != 2 || !record[1].is_array() || record[1].empty()) {
      fail(kRecordForm);
    }
    const ExpertGrid* grid = trace_.facts ? &trace_.facts->grid : nullptr;
    const auto layer = static_cast<uint32_t>(count(record[0], 0, kMaxLayers - 1, "a layer"));
    if (grid != nullptr && !grid->index_of(layer)) {
      fail("layer ", layer, " is none of those that the first line names");
    }
    const uint32_t experts = grid != nullptr ? grid->experts : kMaxExperts;
    chosen_.clear();
    for (const json& expert : record[1]) {
      chosen_.push_back(static_cast<uint32_t>(count(expert, 0, experts - 1, "an expert")));
    }
    sorted_ = chosen_;
    std::ranges::sort(sorted_);
    if (std::ranges::adjacent_find(sorted_) != sorted_.end()) fail("an expert is there twice");
    if (trace_.demands() + chosen_.size() > kMaxTraceDemands) {
      fail("more than the ", kMaxTraceDemands, " experts that a trace may have; cut it in pieces");
    }
    trace_.add(layer, chosen_);
  }

  const std::string& path_;
  uint64_t line_ = 0;
  Trace trace_;
  std::vector<uint32_t> chosen_;
  std::vector<uint32_t> sorted_;
};

// Gives parser the whole lines of text; returns what is behind the last.
std::string_view add_lines(Parser& parser, std::string_view text) {
  for (size_t end; (end = text.find('\n')) != std::string_view::npos;) {
    parser.add(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return text;
}

}  // namespace

void Trace::add(uint32_t layer, std::span<const uint32_t> experts) {
  layers_.push_back(layer);
  experts_.insert(experts_.end(), experts.begin(), experts.end());
  first_.push_back(experts_.size());
}

Trace parse_trace(std::string_view text, const std::string& path) {
  Parser parser(path);
  const std::string_view rest = add_lines(parser, text);
  if (!rest.empty()) parser.add(rest);
  return parser.take();
}

Trace read_trace(const std::string& path) {
  const RegularFile file = open_regular_file(path);
  Parser parser(path);
  std::string text;
  for (uint64_t offset = 0; offset < file.size_bytes;) {
    const uint64_t piece = std::min(kReadBytes, file.size_bytes - offset);
    const size_t kept = text.size();
    text.resize(kept + piece);
    read_exactly(file.fd, std::as_writable_bytes(std::span(text).subspan(kept)), offset, path);
    offset += piece;
    text = add_lines(parser, text);
    if (text.size() > kMaxTraceLineBytes) break;  // as the parser says
  }
  if (!text.empty()) parser.add(text);
  return parser.take();
}

std::string trace_text(const Trace& trace) {
  std::string text;
  if (trace.facts) text = facts_line(*trace.facts);
  for (size_t i = 0; i < trace.size(); ++i) append_record(text, trace[i].layer, trace[i].experts);
  return text;
}

TraceWriter::TraceWriter(std::string path, const TraceFacts& facts)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)),
      buffer_(facts_line(facts)) {
  if (!fd_.valid()) throw Error(path_, ": cannot be written: ", errno_text(errno));
  flush();
}

void TraceWriter::add(uint32_t layer, std::span<const uint32_t> experts) {
  append_record(buffer_, layer, experts);
}

void TraceWriter::flush() {
  std::string_view left = buffer_;
  while (!left.empty()) {
    const ssize_t written = ::write(fd_.get(), left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      throw Error(path_, ": the trace cannot be written: ", errno_text(errno),
                  "; free space, or run without --trace");
    }
    left.remove_prefix(static_cast<size_t>(written));
  }
  buffer_.clear();
}

}  // namespace sluice
