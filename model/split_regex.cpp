#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/split_regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <new>

#include "io/error.h"
#include "model/utf8.h"

namespace sluice {
namespace {

// Published patterns have a few hundred bytes.
constexpr size_t kMaxPatternBytes = 1 << 16;
// Heap for backtracking where there is no JIT; a group repeated over a megabyte needs about this.
constexpr uint32_t kHeapLimitKib = 256 * 1024;
// The first attempt at a match may take this many steps: more than any usual word needs.
constexpr uint32_t kFirstStepLimit = 10'000;
constexpr uint32_t kStepLimitGrowth = 8;
// Steps that a whole text may take beyond first attempts, per byte and to begin with. Published
// patterns take fewer than 4 a byte on the texts that are worst for them (runs of spaces).
constexpr size_t kStepsPerByte = 64;
constexpr size_t kStepsAtLeast = 10'000'000;

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <class T>
T* checked(T* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;

}  // namespace

struct SplitRegex::Compiled {
  std::string where;
  Code code;
};

struct SplitRegex::Search::Buffers {
  MatchContext context;
  MatchData data;
};

SplitRegex::SplitRegex(std::string_view pattern, Syntax syntax, const std::string& where)
    : compiled_(std::make_unique<Compiled>(Compiled{where, nullptr})) {
  if (pattern.empty()) throw Error(where, ": the pattern is empty; it would match everywhere");
  if (pattern.size() > kMaxPatternBytes) {
    throw Error(where, ": the pattern has ", pattern.size(), " bytes; the limit is ",
                kMaxPatternBytes);
  }
  const bool literal = syntax == Syntax::literal;
  const std::string text = literal ? std::string(pattern) : pcre2_from_oniguruma(pattern, where);
  // In Ruby's syntax ^ and $ always are anchors of lines.
  const uint32_t options =
      PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
  const CompileContext context(checked(pcre2_compile_context_create(nullptr)));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                      options, &code, &offset, context.get()));
  if (!compiled_->code) {
    throw Error(where, ": the pattern is no regular expression: ", pcre2_message(code),
                " (at byte ", offset, " of ", text.size(), ")");
  }
  // Without a JIT (a kernel may forbid executable memory) the interpreter does the same, slower.
  pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE);
}

SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;
SplitRegex::~SplitRegex() = default;

SplitRegex::Search::Search(const SplitRegex& regex, std::string_view text)
    : regex_(&regex), buffers_(std::make_unique<Buffers>()) {
  buffers_->context.reset(checked(pcre2_match_context_create(nullptr)));
  buffers_->data.reset(
      checked(pcre2_match_data_create_from_pattern(regex.compiled_->code.get(), nullptr)));
  pcre2_set_heap_limit(buffers_->context.get(), kHeapLimitKib);
  step_budget_ = kStepsAtLeast;
  restart(text);
}

SplitRegex::Search::~Search() = default;

void SplitRegex::Search::restart(std::string_view text) {
  text_ = text;
  start_ = 0;
  last_end_.reset();
  step_budget_ += text.size() * kStepsPerByte;
}

// PCRE2 stops a match at a limit but does not tell how many steps one took. So each match begins
// with a small limit, which grows on demand; what was spent on demand is what the budget counts.
int SplitRegex::Search::match(size_t start) {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  const pcre2_code* code = regex_->compiled_->code.get();
  uint32_t options = PCRE2_NO_UTF_CHECK;  // done once by the tokenizer; here it would be quadratic
  for (uint32_t limit = kFirstStepLimit;;) {
    pcre2_set_match_limit(buffers_->context.get(), limit);
    const int result = pcre2_match(code, subject, text_.size(), start, options,
                                   buffers_->data.get(), buffers_->context.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      options |= PCRE2_NO_JIT;  // the interpreter has the heap
    } else if (result == PCRE2_ERROR_MATCHLIMIT && limit <= step_budget_) {
      step_budget_ -= limit;
      limit = limit > UINT32_MAX / kStepLimitGrowth ? UINT32_MAX : limit * kStepLimitGrowth;
    } else {
      return result;
    }
  }
}

std::optional<TextSpan> SplitRegex::Search::next() {
  while (start_ <= text_.size()) {
    const int result = match(start_);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      throw Error(regex_->compiled_->where, ": the pattern could not be searched for in a text of ",
                  text_.size(), " bytes, at byte ", start_, ": ", pcre2_message(result),
                  "; use a tokenizer file whose patterns backtrack less");
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(buffers_->data.get());
    // \K, which could put the begin past the end, is refused by the translation.
    const TextSpan span{bounds[0], bounds[1]};
    const bool empty = span.begin == span.end;
    const bool touches_last = last_end_ == span.end;
    start_ = span.end;
    if (empty) start_ += span.end < text_.size() ? utf8_length(text_[span.end]) : 1;
    if (empty && touches_last) continue;
    last_end_ = span.end;
    return span;
  }
  start_ = text_.size() + 1;
  return std::nullopt;
}

}  // namespace sluice
