#include "tools/text_output.h"

#include <utility>

#include "io/check.h"

namespace sluice {

TextOutput::TextOutput(Output& output, const Tokenizer* tokenizer, std::vector<std::string> stops,
                       bool print_ids)
    : output_(output), filter_(std::move(stops)), print_ids_(print_ids) {
  SLUICE_CHECK(tokenizer != nullptr || print_ids);
  if (tokenizer != nullptr) detokenizer_.emplace(*tokenizer, /*skip_special_tokens=*/true);
}

void TextOutput::add(uint32_t id, bool end_token) {
  if (print_ids_) write_id(id);
  if (detokenizer_ && !end_token) write_text(filter_.push(detokenizer_->push(id)));
}

void TextOutput::finish() {
  if (detokenizer_) {
    write_text(filter_.push(detokenizer_->finish()));
    write_text(filter_.finish());
  }
  if (print_ids_) output_.write("\n");
}

void TextOutput::write_id(uint32_t id) {
  if (!first_) output_.write(",");
  output_.write(std::to_string(id));
  first_ = false;
}

void TextOutput::write_text(const std::string& text) {
  if (!print_ids_) output_.write(text);
}

}  // namespace sluice
