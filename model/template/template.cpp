#include "model/template/template.h"

#include <utility>

#include "model/template/interpreter.h"
#include "model/template/json.h"
#include "model/template/parser.h"

namespace sluice::jinja {
namespace {

void define(const Variable& variable, Heap& heap, Scope& scope) {
  const std::string what = variable.name.empty() ? "the template's variables" : variable.name;
  const Value value = parse_json_value(variable.json, what, heap);
  if (!variable.name.empty()) {
    heap.set(scope, heap.keep(variable.name), value);
    return;
  }
  if (!value.is(Kind::dict)) throw Error(what, " are ", kind_name(value), "; expected an object");
  for (const Dict::Entry& entry : value.dict().entries()) {
    heap.set(scope, entry.key.text(), entry.value);
  }
}

}  // namespace

Template::Template(std::unique_ptr<const SyntaxTree> tree, std::string name)
    : tree_(std::move(tree)), name_(std::move(name)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Template Template::parse(std::string_view source, std::string name) {
  try {
    return Template(jinja::parse(source), name);
  } catch (const Error& error) {
    throw Error(name, ": ", error.what());
  }
}

std::string Template::render(std::span<const Variable> variables,
                             const RenderOptions& options) const {
  Meter meter(options.limits);
  Heap heap(meter);
  Scope& scope = heap.scope(nullptr);
  for (const Variable& variable : variables) define(variable, heap, scope);
  Runtime runtime{.meter = meter, .heap = heap, .clock = options.clock};
  Interpreter interpreter(*tree_, runtime);
  const auto place = [&] { return name_ + ": line " + std::to_string(interpreter.line()); };
  try {
    return interpreter.run(scope);
  } catch (const Raised& raised) {
    throw TemplateRaised(place(), raised.what());
  } catch (const Error& error) {
    throw Error(place(), ": ", error.what());
  }
}

}  // namespace sluice::jinja
