// ItemGetter: the attribute that filters such as map(attribute="a.b.0") name. Threads: any.
#pragma once

#include <string_view>
#include <vector>

#include "model/template/heap.h"

namespace sluice::jinja {

class ItemGetter {
 public:
  // attribute: names and places with dots between them, or an integer. Throws Error for another
  // kind. Borrows its text.
  ItemGetter(const Value& attribute, Meter& meter);
  // Undefined where there is none; an Error where a step before the last is undefined.
  Value get(const Value& subject, Heap& heap) const;

 private:
  std::vector<Value> steps_;
};

}  // namespace sluice::jinja
