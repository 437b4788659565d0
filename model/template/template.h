// Template: a chat template, which is a template in the language of Jinja, parsed once and rendered
// any number of times. docs/chat_templates.md says what of the language is there.
//
// White space, values and errors are those of the reference implementation as it is set up for chat
// templates. A rendering is a function of the template, its variables and the clock.
// Threads: any, after parse (const members only).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "io/error.h"
#include "model/template/builtins.h"
#include "model/template/meter.h"

namespace sluice::jinja {

struct SyntaxTree;

// A variable as JSON text. Without a name: an object, each of whose entries is a variable.
struct Variable {
  std::string name;
  std::string json;
};

struct RenderOptions {
  Limits limits;
  Clock clock;  // for strftime_now(); without one that is an Error
};

// What a template says by raise_exception(): its input is not what it is made for.
class TemplateRaised : public Error {
 public:
  TemplateRaised(const std::string& place, const std::string& message)
      : Error(place, ": the template refuses this input: ", message), message_(message) {}
  // The template's own words.
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

class Template {
 public:
  // name: for messages, "DIR/chat_template.jinja". Throws Error: too long, not UTF-8, no template
  // (with the line).
  static Template parse(std::string_view source, std::string name);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // Of a variable given twice the last one counts. Throws TemplateRaised, and Error for all else,
  // with the template's line: what Python would raise, and what goes past the limits.
  std::string render(std::span<const Variable> variables, const RenderOptions& options) const;

 private:
  Template(std::unique_ptr<const SyntaxTree> tree, std::string name);

  std::unique_ptr<const SyntaxTree> tree_;
  std::string name_;
};

}  // namespace sluice::jinja
