// Parses the text of a template. Threads: any.
#pragma once

#include <memory>
#include <string_view>

#include "model/template/syntax.h"

namespace sluice::jinja {

// Published templates have up to 20 KB.
inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
// Levels of nested statements, brackets and operators.
inline constexpr uint32_t kMaxNesting = 150;

// source: UTF-8; any line breaks; one at the end is dropped, as the reference does.
// Throws Error, beginning with "line N: " where there is a line. O(n).
std::unique_ptr<const SyntaxTree> parse(std::string_view source);

}  // namespace sluice::jinja
