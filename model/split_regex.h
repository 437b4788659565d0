// SplitRegex: a tokenizer file's regular expression, searched in text by PCRE2.
//
// The files are written for Oniguruma (Ruby syntax). What means the same in both passes through,
// what differs is translated (\s, which in PCRE2 takes U+180E too; {,n}; line anchors), and what is
// left (\w, \h, nested classes, &&, named groups, inline flags other than i) is an Error naming it,
// rather than a match that differs in silence.
//
// A search is bounded: a pattern that backtracks without end is an Error, not a hang. Published
// patterns take time linear in the text; one that scans to the end of the text for every match
// cannot be told from them in advance and takes quadratic time.
// Threads: any, after construction; each Search is for one.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

struct TextSpan {
  size_t begin, end;  // bytes
};

class SplitRegex {
 public:
  enum class Syntax { regex, literal };
  // where: for messages ("DIR/tokenizer.json: pre_tokenizer"). Throws Error: not a pattern, or one
  // with a construct that is not supported.
  SplitRegex(std::string_view pattern, Syntax syntax, const std::string& where);
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;
  ~SplitRegex();

  // The matches in a text, from left to right and without overlap. An empty match that touches the
  // match before it is passed over, as the reference does.
  class Search {
   public:
    // Borrows regex and text (valid UTF-8); both must outlive this.
    Search(const SplitRegex& regex, std::string_view text);
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    ~Search();

    // Goes on with another text, with the same buffers.
    void restart(std::string_view text);
    // Throws Error: the pattern took too many steps.
    std::optional<TextSpan> next();

   private:
    int match(size_t start);

    struct Buffers;
    const SplitRegex* regex_;
    std::unique_ptr<Buffers> buffers_;
    std::string_view text_;
    size_t start_ = 0;
    std::optional<size_t> last_end_;
    size_t step_budget_ = 0;
  };

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

// The same pattern in PCRE2's dialect. Throws Error naming the construct that has no translation.
std::string pcre2_from_oniguruma(std::string_view pattern, const std::string& where);

}  // namespace sluice
