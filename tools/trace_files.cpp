#include "tools/trace_files.h"

#include "io/atomic_file.h"
#include "io/error.h"
#include "model/trace_facts.h"
#include "stream/trace_statistics.h"

namespace sluice {
namespace {

void check_same_model(const std::optional<TraceFacts>& first,
                      const std::optional<TraceFacts>& other, const std::string& first_file,
                      const std::string& file) {
  if (first == other) return;
  throw Error(file, ": not of the same model as ", first_file,
              " (their first lines differ); calibrate each model by itself");
}

}  // namespace

TraceSet read_trace_set(std::span<const std::string> files, const std::string& model) {
  Trace all;
  for (const std::string& file : files) {
    const Trace trace = read_trace(file);
    if (&file == &files.front()) all.facts = trace.facts;
    check_same_model(all.facts, trace.facts, files.front(), file);
    if (all.demands() + trace.demands() > kMaxTraceDemands) {
      throw Error(file, ": together the traces have more than the ", kMaxTraceDemands,
                  " experts that fit in memory; give fewer of them");
    }
    for (size_t i = 0; i < trace.size(); ++i) all.add(trace[i].layer, trace[i].experts);
  }
  if (all.size() == 0) throw Error(files.front(), ": the trace has no records");
  if (!all.facts && model.empty()) {
    throw Error(files.front(), ": the trace does not say which model it is of; give --model DIR");
  }
  TraceSet set;
  set.facts = model.empty() ? *all.facts : read_trace_facts(model);
  if (all.facts) check_same_model(set.facts, all.facts, model, files.front());
  set.sequence = demand_sequence(all, set.facts.grid);
  set.tokens = records_of_tokens(set.sequence).size();
  return set;
}

uint64_t merge_traces(std::span<const std::string> files, const std::string& out) {
  AtomicFile merged(out);
  std::optional<TraceFacts> facts;
  uint64_t records = 0;
  for (const std::string& file : files) {
    Trace trace = read_trace(file);
    const bool first = &file == &files.front();
    if (first) facts = trace.facts;
    check_same_model(facts, trace.facts, files.front(), file);
    if (!first) trace.facts.reset();  // said once
    records += trace.size();
    const std::string text = trace_text(trace);
    merged.write(std::as_bytes(std::span(text)));
  }
  merged.commit();
  return records;
}

}  // namespace sluice
