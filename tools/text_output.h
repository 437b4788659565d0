// TextOutput: generated ids in, what the user sees out: text up to a stop string, or the ids.
//
// Text is passed on as soon as it is certain: whole characters, and nothing that may yet be the
// beginning of a stop string. Ids appear on one line, separated by commas, the end token included.
// Borrows: output, tokenizer (must outlive this). Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "tools/output.h"
#include "tools/stop_filter.h"

namespace sluice {

class TextOutput {
 public:
  // tokenizer may be null where ids are printed and there are no stop strings.
  TextOutput(Output& output, const Tokenizer* tokenizer, std::vector<std::string> stops,
             bool print_ids);

  // end_token: the id ends the text and is no part of it. Throws Error (output cannot be written).
  void add(uint32_t id, bool end_token);
  // Writes what was held back, unless a stop string cut it off.
  void finish();
  bool stopped() const { return filter_.stopped(); }
  bool closed() const { return output_.closed(); }

 private:
  void write_id(uint32_t id);
  void write_text(const std::string& text);

  Output& output_;
  std::optional<Detokenizer> detokenizer_;
  StopFilter filter_;
  bool print_ids_;
  bool first_ = true;
};

}  // namespace sluice
